-- Customers' accounts, and for each currency two of the bank's own:
--   in_flight.EUR  holds what a payer no longer has and no payee has yet;
--   interbank.EUR  is what this bank owes to the other one, negative where the other one owes.
-- Money only moves between the accounts of this table, so that all of them together always hold the same.
CREATE TABLE IF NOT EXISTS accounts (
    account_id    TEXT    NOT NULL PRIMARY KEY,
    owner         TEXT    NOT NULL CHECK (owner IN ('CUSTOMER', 'BANK')),
    state         TEXT    NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'CLOSED')),
    currency      TEXT    NOT NULL,
    opening_minor INTEGER NOT NULL DEFAULT 0,
    balance_minor INTEGER NOT NULL DEFAULT 0 CHECK (owner = 'BANK' OR balance_minor >= 0)
) STRICT;

-- The ledger: a row for each movement of money, never changed and never deleted. A debit that is compensated keeps its
-- row, and a reversal comes beside it.
CREATE TABLE IF NOT EXISTS movements (
    movement_id  TEXT    NOT NULL,
    kind         TEXT    NOT NULL CHECK (kind IN ('DEBIT', 'REVERSAL', 'CREDIT', 'SETTLEMENT')),
    transfer_id  TEXT    NOT NULL,
    from_account TEXT    NOT NULL REFERENCES accounts,
    to_account   TEXT    NOT NULL REFERENCES accounts,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    PRIMARY KEY (movement_id, kind)
) STRICT;

INSERT INTO accounts (account_id, owner, currency)
VALUES ('in_flight.EUR', 'BANK', 'EUR'), ('interbank.EUR', 'BANK', 'EUR'),
       ('in_flight.USD', 'BANK', 'USD'), ('interbank.USD', 'BANK', 'USD')
ON CONFLICT DO NOTHING;
