-- Every day of the season is an item of its own.
INSERT INTO allotment (item, price_cents, free)
WITH RECURSIVE season (day) AS (
    SELECT '2027-05-01' UNION ALL SELECT date(day, '+1 day') FROM season WHERE day < '2027-09-30'
),
classes (car_class, price_cents, cars) AS (VALUES ('compact', 3900, 5), ('van', 7900, 2))
SELECT car_class || '/' || day, price_cents, cars FROM classes, season WHERE true
ON CONFLICT DO NOTHING;
