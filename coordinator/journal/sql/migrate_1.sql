-- From schema version 1 to 2: tombstones, and an index that finds what is old enough to be retired. The file keeps its
-- vacuum mode: only a VACUUM changes that, which takes as long as copying the file, so an operator chooses when.

CREATE INDEX sagas_ended ON sagas (end_time_ns) WHERE state IN (4, 5);

CREATE TABLE tombstones (
    saga_id TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    request_digest BLOB NOT NULL,
    end_time_ns INTEGER NOT NULL,
    retire_time_ns INTEGER NOT NULL
) STRICT;

CREATE INDEX tombstones_oldest ON tombstones (retire_time_ns);
