"""The barrier's table in SQLite, and every statement on it.

The table lives in the participant's own database, beside the business tables, and is the barrier's: business code
may read it, and writes it never. `execute_reply`, `compensate_reply` and `confirm_reply` are serialized
`saga.v1.*Response` messages; `*_attempt` is the attempt each of them answered, which bounds what a rejection covers;
`handler` is `owner/id` of an external action's running handler. Times are UTC, ISO 8601 with microseconds, so that
they compare as text.
"""

from typing import Final

SCHEMA_VERSION: Final = 1

SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS saga_barrier_schema (version INTEGER NOT NULL) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS saga_barrier (
        saga_uid           TEXT NOT NULL,
        step               TEXT NOT NULL,
        saga_id            TEXT NOT NULL,
        action             TEXT NOT NULL,
        input_type         TEXT NOT NULL,
        input              BLOB NOT NULL,
        state              TEXT NOT NULL,
        execute_reply      BLOB,
        execute_attempt    INTEGER,
        compensate_reply   BLOB,
        compensate_attempt INTEGER,
        confirm_reply      BLOB,
        confirm_attempt    INTEGER,
        handler            TEXT NOT NULL,
        create_time        TEXT NOT NULL,
        update_time        TEXT NOT NULL,
        PRIMARY KEY (saga_uid, step)
    ) STRICT
    """,
    """
    CREATE INDEX IF NOT EXISTS saga_barrier_by_update_time ON saga_barrier (update_time)
    """,
)

READ_VERSION: Final = "SELECT version FROM saga_barrier_schema"
WRITE_VERSION: Final = "INSERT INTO saga_barrier_schema (version) VALUES (?)"

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
BEGIN_CALL: Final = "SAVEPOINT saga_barrier_call"
KEEP_CALL: Final = "RELEASE saga_barrier_call"
DROP_CALL: Final = "ROLLBACK TO saga_barrier_call"
SAVEPOINT: Final = "SAVEPOINT saga_barrier_handler"
KEEP_SINCE_SAVEPOINT: Final = "RELEASE saga_barrier_handler"
DROP_SINCE_SAVEPOINT: Final = "ROLLBACK TO saga_barrier_handler"

LOAD: Final = """
    SELECT saga_id, action, input_type, input, state, execute_reply, execute_attempt,
           compensate_reply, compensate_attempt, confirm_reply, confirm_attempt, handler
    FROM saga_barrier WHERE saga_uid = ? AND step = ?
"""

SAVE: Final = """
    INSERT INTO saga_barrier (
        saga_uid, step, saga_id, action, input_type, input, state, execute_reply, execute_attempt,
        compensate_reply, compensate_attempt, confirm_reply, confirm_attempt, handler, create_time, update_time)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (saga_uid, step) DO UPDATE SET
        state = excluded.state,
        execute_reply = excluded.execute_reply,
        execute_attempt = excluded.execute_attempt,
        compensate_reply = excluded.compensate_reply,
        compensate_attempt = excluded.compensate_attempt,
        confirm_reply = excluded.confirm_reply,
        confirm_attempt = excluded.confirm_attempt,
        handler = excluded.handler,
        update_time = excluded.update_time
"""

PRUNE: Final = """
    DELETE FROM saga_barrier WHERE rowid IN (
        SELECT rowid FROM saga_barrier
        WHERE update_time < ? AND state NOT IN (SELECT value FROM json_each(?)) LIMIT ?)
    RETURNING 1
"""
