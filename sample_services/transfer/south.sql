-- The customers of the southern bank.
INSERT INTO accounts (account_id, owner, state, currency, opening_minor, balance_minor)
VALUES ('grace@south', 'CUSTOMER', 'OPEN', 'EUR', 50000, 50000),
       ('hugo@south', 'CUSTOMER', 'OPEN', 'EUR', 20000, 20000),
       ('ines@south', 'CUSTOMER', 'OPEN', 'USD', 10000, 10000),
       ('otto@south', 'CUSTOMER', 'CLOSED', 'EUR', 0, 0)
ON CONFLICT DO NOTHING;
