CREATE TABLE IF NOT EXISTS cards (
    payment_card  TEXT    NOT NULL PRIMARY KEY,
    balance_cents INTEGER NOT NULL CHECK (balance_cents >= 0)
) STRICT;

CREATE TABLE IF NOT EXISTS payments (
    payment_id   TEXT    NOT NULL PRIMARY KEY,
    trip_id      TEXT    NOT NULL,
    payment_card TEXT    NOT NULL REFERENCES cards,
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0)
) STRICT;

INSERT INTO cards (payment_card, balance_cents)
VALUES ('card_gold', 1000000), ('card_student', 10000)
ON CONFLICT DO NOTHING;
