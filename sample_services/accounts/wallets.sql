-- Where there are wallets.
CREATE TABLE IF NOT EXISTS countries (
    country_code TEXT NOT NULL PRIMARY KEY,
    currency     TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS wallets (
    wallet_id TEXT NOT NULL PRIMARY KEY,
    user_id   TEXT NOT NULL,
    currency  TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('OPEN', 'CLOSED'))
) STRICT;

INSERT INTO countries (country_code, currency)
VALUES ('NL', 'EUR'), ('PT', 'EUR'), ('GB', 'GBP')
ON CONFLICT DO NOTHING;
