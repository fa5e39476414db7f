-- A piece is available, reserved for an order, or shipped. What is in the table when the service first starts is its
-- stock; after that pieces only move between the three columns.
CREATE TABLE IF NOT EXISTS stock (
    sku         TEXT    NOT NULL PRIMARY KEY,
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    available   INTEGER NOT NULL CHECK (available >= 0),
    reserved    INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    shipped     INTEGER NOT NULL DEFAULT 0 CHECK (shipped >= 0)
) STRICT;

CREATE TABLE IF NOT EXISTS reservations (
    reservation_id TEXT NOT NULL PRIMARY KEY,
    order_id       TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('HELD', 'RELEASED', 'SHIPPED'))
) STRICT;

CREATE TABLE IF NOT EXISTS reservation_lines (
    reservation_id TEXT    NOT NULL REFERENCES reservations,
    sku            TEXT    NOT NULL REFERENCES stock,
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku)
) STRICT;

INSERT INTO stock (sku, price_cents, available)
VALUES ('kettle', 4900, 20), ('teapot', 3500, 30), ('cup', 850, 200)
ON CONFLICT DO NOTHING;
