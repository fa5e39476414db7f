CREATE TABLE IF NOT EXISTS stock (
    sku    TEXT    NOT NULL PRIMARY KEY,
    pieces INTEGER NOT NULL CHECK (pieces >= 0)
) STRICT;

CREATE TABLE IF NOT EXISTS sales (
    sale_id  TEXT    NOT NULL PRIMARY KEY,
    sku      TEXT    NOT NULL REFERENCES stock,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    state    TEXT    NOT NULL CHECK (state IN ('SOLD', 'RETURNED'))
) STRICT;

INSERT INTO stock (sku, pieces)
VALUES ('atlas', 5), ('novel', 40)
ON CONFLICT DO NOTHING;
