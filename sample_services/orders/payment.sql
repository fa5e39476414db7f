-- The books. A refund is a row of its own: a charge that was given back has still been made.
CREATE TABLE IF NOT EXISTS charges (
    charge_id    TEXT    NOT NULL PRIMARY KEY,
    order_id     TEXT    NOT NULL,
    card_token   TEXT    NOT NULL,
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0)
) STRICT;

CREATE TABLE IF NOT EXISTS refunds (
    charge_id    TEXT    NOT NULL PRIMARY KEY REFERENCES charges,
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
    reason       TEXT    NOT NULL
) STRICT;
