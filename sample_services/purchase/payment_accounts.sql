CREATE TABLE IF NOT EXISTS accounts (
    account_id    TEXT    NOT NULL PRIMARY KEY,
    balance_cents INTEGER NOT NULL CHECK (balance_cents >= 0)
) STRICT;

-- The books: what changed a balance. A debit is negative, its reversal positive.
CREATE TABLE IF NOT EXISTS entries (
    debit_id     TEXT    NOT NULL,
    kind         TEXT    NOT NULL CHECK (kind IN ('DEBIT', 'REVERSAL')),
    account_id   TEXT    NOT NULL REFERENCES accounts,
    amount_cents INTEGER NOT NULL,
    PRIMARY KEY (debit_id, kind)
) STRICT;

INSERT INTO accounts (account_id, balance_cents)
VALUES ('ada', 50000), ('grace', 20000)
ON CONFLICT DO NOTHING;
