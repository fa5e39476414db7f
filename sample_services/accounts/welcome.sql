-- The outbox.
CREATE TABLE IF NOT EXISTS messages (
    message_id TEXT NOT NULL PRIMARY KEY,
    user_id    TEXT NOT NULL,
    email      TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;
