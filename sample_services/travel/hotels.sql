-- Every night of the season is an item of its own.
INSERT INTO allotment (item, price_cents, free)
WITH RECURSIVE nights (night) AS (
    SELECT '2027-05-01' UNION ALL SELECT date(night, '+1 day') FROM nights WHERE night < '2027-09-30'
),
hotels (hotel_id, price_cents, rooms) AS (VALUES ('mar', 11000, 6), ('bairro', 7500, 1))
SELECT hotel_id || '/' || night, price_cents, rooms FROM hotels, nights WHERE true
ON CONFLICT DO NOTHING;
