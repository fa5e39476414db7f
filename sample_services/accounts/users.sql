CREATE TABLE IF NOT EXISTS users (
    user_id TEXT NOT NULL PRIMARY KEY,
    name    TEXT NOT NULL,
    email   TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('ACTIVE', 'CLOSED'))
) STRICT;

CREATE UNIQUE INDEX IF NOT EXISTS users_active_email ON users (email) WHERE state = 'ACTIVE';
