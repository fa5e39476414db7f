-- The customers of the northern bank.
INSERT INTO accounts (account_id, owner, state, currency, opening_minor, balance_minor)
VALUES ('ada@north', 'CUSTOMER', 'OPEN', 'EUR', 100000, 100000),
       ('bob@north', 'CUSTOMER', 'OPEN', 'EUR', 30000, 30000),
       ('carl@north', 'CUSTOMER', 'CLOSED', 'EUR', 0, 0)
ON CONFLICT DO NOTHING;
