-- Where we ship to, and with whom. `parcels` counts the tracking numbers that were given out.
CREATE TABLE IF NOT EXISTS carriers (
    country_code TEXT    NOT NULL PRIMARY KEY,
    carrier      TEXT    NOT NULL,
    parcels      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS shipments (
    shipment_id     TEXT NOT NULL PRIMARY KEY,
    order_id        TEXT NOT NULL,
    tracking_number TEXT NOT NULL UNIQUE,
    recipient       TEXT NOT NULL,
    country_code    TEXT NOT NULL REFERENCES carriers,
    state           TEXT NOT NULL CHECK (state IN ('CREATED', 'CANCELLED'))
) STRICT;

INSERT INTO carriers (country_code, carrier)
VALUES ('NL', 'Polder Post'), ('DE', 'Rhein Logistik'), ('PT', 'Expresso Atlântico')
ON CONFLICT DO NOTHING;
