INSERT INTO allotment (item, price_cents, free)
VALUES ('TP675', 18900, 12), ('KL1693', 21500, 4)
ON CONFLICT DO NOTHING;
