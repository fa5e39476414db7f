-- A balance may be negative: a compensation takes back what the merchant may have spent.
CREATE TABLE IF NOT EXISTS merchants (
    merchant_id   TEXT    NOT NULL PRIMARY KEY,
    balance_cents INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The books: what changed a balance. A credit is positive, its reversal negative.
CREATE TABLE IF NOT EXISTS entries (
    credit_id    TEXT    NOT NULL,
    kind         TEXT    NOT NULL CHECK (kind IN ('CREDIT', 'REVERSAL')),
    merchant_id  TEXT    NOT NULL REFERENCES merchants,
    amount_cents INTEGER NOT NULL,
    PRIMARY KEY (credit_id, kind)
) STRICT;

INSERT INTO merchants (merchant_id)
VALUES ('bookshop'), ('bakery')
ON CONFLICT DO NOTHING;
