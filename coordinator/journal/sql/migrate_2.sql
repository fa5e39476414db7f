-- From schema version 2 to 3: exclusive keys, sagas below a root, and an index for each question that an operator asks.

ALTER TABLE sagas ADD COLUMN root_saga_id TEXT NOT NULL DEFAULT '';
ALTER TABLE sagas ADD COLUMN exclusive_keys TEXT;

DROP INDEX sagas_compensated;
CREATE INDEX sagas_by_pin ON sagas (pin, create_time_ns);
CREATE INDEX sagas_by_state ON sagas (state, create_time_ns) WHERE state NOT IN (2, 4);
CREATE INDEX sagas_paused ON sagas (create_time_ns) WHERE paused = 1;
CREATE INDEX sagas_overdue ON sagas (create_time_ns) WHERE overdue = 1;
CREATE INDEX sagas_failing ON sagas (create_time_ns) WHERE failure IS NOT NULL;
CREATE INDEX sagas_by_parent ON sagas (parent_saga_id, create_time_ns) WHERE parent_saga_id <> '';
CREATE INDEX sagas_keyed_below ON sagas (root_saga_id) WHERE root_saga_id <> '' AND exclusive_keys IS NOT NULL;

CREATE TABLE exclusive_keys (
    key TEXT NOT NULL,
    create_time_ns INTEGER NOT NULL,
    saga INTEGER NOT NULL,
    PRIMARY KEY (key, create_time_ns, saga)
) STRICT, WITHOUT ROWID;
