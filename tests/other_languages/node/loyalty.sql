-- Points are usable or held for a gift. What is in the table when the service first starts are its customers.
CREATE TABLE IF NOT EXISTS customers (
    customer_id TEXT    NOT NULL PRIMARY KEY,
    points      INTEGER NOT NULL,
    held        INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    suspended   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row for each time that points moved, and never changed afterwards.
CREATE TABLE IF NOT EXISTS movements (
    movement_id INTEGER PRIMARY KEY,
    saga_id     TEXT    NOT NULL,
    saga_uid    TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('GRANTED', 'TAKEN_BACK', 'HELD', 'RELEASED', 'SPENT')),
    customer_id TEXT    NOT NULL REFERENCES customers,
    points      INTEGER NOT NULL CHECK (points >= 0)
) STRICT;

INSERT INTO customers (customer_id, points, suspended)
VALUES ('ada', 1000, 0), ('grace', 1000, 1)
ON CONFLICT DO NOTHING;
