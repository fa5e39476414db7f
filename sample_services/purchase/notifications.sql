-- The outbox.
CREATE TABLE IF NOT EXISTS notifications (
    notification_id TEXT NOT NULL PRIMARY KEY,
    purchase_id     TEXT NOT NULL,
    account_id      TEXT NOT NULL,
    text            TEXT NOT NULL
) STRICT;
