-- The outbox.
CREATE TABLE IF NOT EXISTS mails (
    mail_id TEXT NOT NULL PRIMARY KEY,
    trip_id TEXT NOT NULL,
    email   TEXT NOT NULL,
    text    TEXT NOT NULL
) STRICT;
