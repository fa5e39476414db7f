"""Every limit and every default of the SDK, in one place.

A number that bounds a queue, a wait, a retry, a payload or a page stands here and nowhere else. Sizes are bytes;
times are `timedelta`, or say their unit in the name where a library wants a number.

This module must not import anything of the project.
"""

from datetime import timedelta
from typing import Final

# What the contract lets a participant say.
ACTIONS_MAX: Final = 256
ACTION_NAME_LENGTH_MAX: Final = 64
REASON_LENGTH_MAX: Final = 64
MESSAGE_BYTES_MAX: Final = 4 << 20
OUTPUT_BYTES_MAX: Final = 1 << 20
TEXT_LENGTH_MAX: Final = 1024  # of a rejection's or a pending answer's message; the rest is cut off
METADATA_BYTES_MAX: Final = 4096  # of a rejection, keys and values
KEY_BYTES_MAX: Final = 512  # of saga_uid and of step, which name a barrier row
QUOTED_LENGTH_MAX: Final = 128  # how much of a caller's text an error repeats

# The server.
CALLS_MAX: Final = 1024  # calls under way at a time, those that wait for the database included
DRAIN_DEFAULT: Final = timedelta(seconds=10)
CLEAN_UP_MAX: Final = timedelta(seconds=5)  # for cancelled handlers, after the drain
PING_INTERVAL_MIN_MS: Final = 5_000  # clients ping every 10 s

# The fast lane, in one stream.
EXCHANGE_IN_FLIGHT_MAX: Final = CALLS_MAX
EXCHANGE_MESSAGE_BYTES_MAX: Final = 1 << 20
EXCHANGE_UNSENT_MAX: Final = 1024  # answers that the coordinator does not take; no further call is read meanwhile
EXCHANGE_TIMEOUT_MAX: Final = timedelta(days=1)  # longer ones are cut to it

# The barrier.
LOCK_WAIT_MAX: Final = timedelta(seconds=10)  # for a call that has no deadline
OPEN_WAIT_MAX: Final = timedelta(seconds=10)  # for a database that another process sets up
BUSY_DELAYS_MS: Final = (1, 2, 5, 10, 15, 20, 25)  # between tries for the write lock; the last one repeats
PRUNE_BATCH_ROWS: Final = 500

# The client.
CALL_TIMEOUT: Final = timedelta(seconds=10)
RETRY_ATTEMPTS: Final = 12  # about 15 s: a coordinator that is restarted is back by then
RETRY_WAIT_INITIAL: Final = timedelta(milliseconds=100)
RETRY_WAIT_MAX: Final = timedelta(seconds=5)
WAIT_SLICE_MAX: Final = timedelta(minutes=1)  # one WaitSaga; the server allows ten
STARTS_IN_FLIGHT_MAX: Final = 512  # of one client, and as many that wait for their sagas; the rest wait for a place
START_MESSAGE_BYTES: Final = 1 << 20  # no start is added to a message that has as many; with the last one, below 4 MiB
LANE_PAUSE_INITIAL: Final = timedelta(seconds=1)  # without the fast lane, once it has broken
LANE_PAUSE_MAX: Final = timedelta(minutes=1)
PAGE_SIZE: Final = 100
PING_INTERVAL_MS: Final = 10_000
PING_TIMEOUT_MS: Final = 5_000
RECONNECT_WAIT_INITIAL_MS: Final = 100
RECONNECT_WAIT_MAX_MS: Final = 5_000  # gRPC's own waits would grow to two minutes
