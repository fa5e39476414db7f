CREATE TABLE IF NOT EXISTS sellers (
    seller_id      TEXT    NOT NULL PRIMARY KEY,
    payout_account TEXT,
    balance_cents  INTEGER NOT NULL DEFAULT 0 CHECK (balance_cents >= 0)
) STRICT;

CREATE TABLE IF NOT EXISTS orders (
    entry_id TEXT    NOT NULL PRIMARY KEY,
    order_id TEXT    NOT NULL,
    parcels  INTEGER NOT NULL CHECK (parcels BETWEEN 1 AND 3),
    state    TEXT    NOT NULL CHECK (state IN ('OPEN', 'PAID', 'GIVEN_UP'))
) STRICT;

-- How the buyer's money for each parcel was shared out.
CREATE TABLE IF NOT EXISTS payouts (
    entry_id   TEXT    NOT NULL REFERENCES orders,
    parcel     INTEGER NOT NULL,
    seller_id  TEXT    NOT NULL REFERENCES sellers,
    paid_cents INTEGER NOT NULL CHECK (paid_cents >= 0),
    fee_cents  INTEGER NOT NULL CHECK (fee_cents >= 0),
    PRIMARY KEY (entry_id, parcel)
) STRICT;

-- The outbox.
CREATE TABLE IF NOT EXISTS notices (
    notice_id TEXT NOT NULL PRIMARY KEY,
    order_id  TEXT NOT NULL,
    email     TEXT NOT NULL,
    text      TEXT NOT NULL
) STRICT;

-- `attic` may sell, and has not said yet where its money is to go.
INSERT INTO sellers (seller_id, payout_account)
VALUES ('kettle_works', 'NL01'), ('tea_house', 'DE02'), ('cup_makers', 'PT03'), ('attic', NULL)
ON CONFLICT DO NOTHING;
