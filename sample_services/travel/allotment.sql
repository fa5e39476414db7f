-- A unit of an item (a seat of a flight, a room of a hotel for a night) is free, held for a saga, or booked. What is in
-- the table when the service first starts is its allotment; after that units only move between the three columns.
CREATE TABLE IF NOT EXISTS allotment (
    item        TEXT    NOT NULL PRIMARY KEY,
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    free        INTEGER NOT NULL CHECK (free >= 0),
    held        INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    booked      INTEGER NOT NULL DEFAULT 0 CHECK (booked >= 0)
) STRICT;

-- LAPSED: the hold was over, and somebody else wanted the units.
CREATE TABLE IF NOT EXISTS bookings (
    booking_id   TEXT NOT NULL PRIMARY KEY,
    saga_id      TEXT NOT NULL,
    hold_until_s REAL NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('HELD', 'BOOKED', 'RELEASED', 'LAPSED'))
) STRICT;

CREATE INDEX IF NOT EXISTS bookings_held ON bookings (hold_until_s) WHERE state = 'HELD';

CREATE TABLE IF NOT EXISTS booking_units (
    booking_id TEXT    NOT NULL REFERENCES bookings,
    item       TEXT    NOT NULL REFERENCES allotment,
    units      INTEGER NOT NULL CHECK (units > 0),
    PRIMARY KEY (booking_id, item)
) STRICT;
