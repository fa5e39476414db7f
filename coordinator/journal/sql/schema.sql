-- The tables of a journal. A change here is a new schema version (sqlite_database.SCHEMA_VERSION) and needs a migration.
-- Instants are nanoseconds since the epoch. The states are those of saga.v1.SagaState: 2 RUNNING, 4 COMPLETED,
-- 5 COMPENSATED, 6 FAILED.

-- What many sagas have in common and never change, said once: the definition version they are pinned to (G11).
CREATE TABLE pins (
    pin INTEGER PRIMARY KEY,
    definition TEXT NOT NULL,
    version INTEGER NOT NULL,
    participants TEXT NOT NULL,  -- a JSON array of names
    UNIQUE (definition, version, participants)
) STRICT;

-- One row per saga: what lists show. `saga` stands for the saga everywhere else, because it is short.
CREATE TABLE sagas (
    saga INTEGER PRIMARY KEY,
    saga_id TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL UNIQUE,
    pin INTEGER NOT NULL,
    state INTEGER NOT NULL,
    create_time_ns INTEGER NOT NULL,
    start_time_ns INTEGER,
    end_time_ns INTEGER,
    deadline_ns INTEGER,
    needs_attention INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    overdue INTEGER NOT NULL,
    failure BLOB,                -- a saga.v1.Failure
    parent_saga_id TEXT NOT NULL,
    labels TEXT NOT NULL,        -- a JSON object
    root_saga_id TEXT NOT NULL DEFAULT '',  -- empty: it is its own root
    exclusive_keys TEXT          -- a JSON array; NULL: none, as nearly all have
) STRICT;

-- Every saga pays for these two.
CREATE INDEX sagas_newest ON sagas (create_time_ns);
CREATE INDEX sagas_by_pin ON sagas (pin, create_time_ns);
-- The partial ones hold few sagas at a time: recovery and an operator's usual questions never walk the finished ones.
CREATE INDEX sagas_unfinished ON sagas (create_time_ns) WHERE state NOT IN (4, 5);
-- Without the two states that every saga goes through: most are COMPLETED, and most that are unfinished are RUNNING.
CREATE INDEX sagas_by_state ON sagas (state, create_time_ns) WHERE state NOT IN (2, 4);
CREATE INDEX sagas_attention ON sagas (create_time_ns) WHERE needs_attention = 1;
CREATE INDEX sagas_paused ON sagas (create_time_ns) WHERE paused = 1;
CREATE INDEX sagas_overdue ON sagas (create_time_ns) WHERE overdue = 1;
CREATE INDEX sagas_failing ON sagas (create_time_ns) WHERE failure IS NOT NULL;
CREATE INDEX sagas_by_parent ON sagas (parent_saga_id, create_time_ns) WHERE parent_saga_id <> '';
-- Finds, below an unfinished root, the children that have ended and whose keys are kept all the same.
CREATE INDEX sagas_keyed_below ON sagas (root_saga_id) WHERE root_saga_id <> '' AND exclusive_keys IS NOT NULL;
-- Finds what is old enough to be retired, without a look at anything else.
CREATE INDEX sagas_ended ON sagas (end_time_ns) WHERE state IN (4, 5);

-- Finds sagas by label, newest first, without sorting.
CREATE TABLE labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    create_time_ns INTEGER NOT NULL,
    saga INTEGER NOT NULL,
    PRIMARY KEY (name, value, create_time_ns, saga)
) STRICT, WITHOUT ROWID;

-- Finds sagas by exclusive key, as the table above by label.
CREATE TABLE exclusive_keys (
    key TEXT NOT NULL,
    create_time_ns INTEGER NOT NULL,
    saga INTEGER NOT NULL,
    PRIMARY KEY (key, create_time_ns, saga)
) STRICT, WITHOUT ROWID;

-- What happened. Rows lie in the order of their commits, so that a group of appends to many sagas dirties a few pages at
-- the end; WITHOUT ROWID would give every saga a page of its own to dirty (a third slower, and no smaller).
CREATE TABLE events (
    saga INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    body BLOB NOT NULL,          -- a saga.v1.SagaEvent without saga_id and sequence
    PRIMARY KEY (saga, sequence)
) STRICT;

-- What is left of a saga that was retired, so that its id and uid are not used again.
CREATE TABLE tombstones (
    saga_id TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    request_digest BLOB NOT NULL,
    end_time_ns INTEGER NOT NULL,
    retire_time_ns INTEGER NOT NULL
) STRICT;

CREATE INDEX tombstones_oldest ON tombstones (retire_time_ns);

-- Descriptor sets, said once however many definition versions were checked against them.
CREATE TABLE descriptors (
    digest TEXT PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;

CREATE TABLE definitions (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    deprecated INTEGER NOT NULL,
    digest TEXT NOT NULL,
    descriptors_digest TEXT NOT NULL,
    create_time_ns INTEGER NOT NULL,
    content BLOB NOT NULL,       -- the last, so that the rest is read without it
    PRIMARY KEY (name, version),
    UNIQUE (name, digest)
) STRICT;

-- Always empty. A journal that failed writes here, and takes it back, to see whether the disk is well again.
CREATE TABLE probes (
    body BLOB NOT NULL
) STRICT;
