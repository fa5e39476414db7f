-- What is remembered of one step of one saga: the request, where the step stands, and the last reply of each operation.
CREATE TABLE IF NOT EXISTS barrier (
    saga_uid           TEXT    NOT NULL,
    step               TEXT    NOT NULL,
    action             TEXT    NOT NULL,
    input_type         TEXT    NOT NULL,
    input              BLOB    NOT NULL,
    state              TEXT    NOT NULL
        CHECK (state IN ('COMPLETED', 'REJECTED', 'CONFIRMED', 'COMPENSATED', 'BARRED')),
    execute_reply      BLOB,
    execute_attempt    INTEGER,  -- the attempt that execute_reply answered
    compensate_reply   BLOB,
    confirm_reply      BLOB,
    PRIMARY KEY (saga_uid, step)
) STRICT;
