CREATE TABLE IF NOT EXISTS cards (
    card_token         TEXT    NOT NULL PRIMARY KEY,
    credit_limit_cents INTEGER NOT NULL
) STRICT;

-- VOID: a refund came before its charge, which is barred by it.
CREATE TABLE IF NOT EXISTS charges (
    charge_id    TEXT    NOT NULL PRIMARY KEY,
    card_token   TEXT,
    amount_cents INTEGER NOT NULL DEFAULT 0,
    state        TEXT    NOT NULL CHECK (state IN ('CHARGED', 'REFUNDED', 'VOID'))
) STRICT;

INSERT INTO cards (card_token, credit_limit_cents)
VALUES ('tok_gold', 500000), ('tok_student', 10000)
ON CONFLICT DO NOTHING;
