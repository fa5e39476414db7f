"""Every number that bounds a run against a participant, in one place (G14). Times are seconds where the name says `_S`.

This module must not import anything of the project.
"""

from typing import Final

FILE_CHARACTERS_MAX: Final = 1 << 20
NESTING_MAX: Final = 32  # of an input in the author's file

CHECK_MAX_S: Final = 120.0  # one check of one action, whatever the participant does
PATIENCE_S: Final = 15.0  # for an operation to be answered, over all its attempts
RETRY_PAUSE_S: Final = 0.02
POLL_MIN_S: Final = 0.01
POLL_MAX_S: Final = 0.25  # asked more often than it says: nobody waits 30 s for a check
COMPLETES_WITHIN_DEFAULT_S: Final = 10.0
READY_MAX_S: Final = 60.0  # from the start command to the first Describe
READY_LOOK_S: Final = 0.05
STOP_MAX_S: Final = 15.0
COMMAND_MAX_S: Final = 30.0  # one command of the author's
SHOWN_BYTES_MAX: Final = 2000  # of what a command printed, and of a request in a report

OVERLAPPING_CALLS: Final = 4
PARALLEL_KEYS: Final = 8
TAKES_MAX_S: Final = 1.0  # what the next two are shares of is the time that one call takes, up to this
LOST_AFTER: Final = (0.0, 0.3, 0.7)  # how long after it was sent a call is given up
SHORT_DEADLINES: Final = (0.3, 0.6, 0.9)
OVERTAKEN_BY_S: Final = (0.0, 0.001, 0.005)  # how long after Execute its Compensate follows
IN_FLIGHT_MAX: Final = 64  # a participant that takes more calls at a time is not tried with one too many
SETTLE_S: Final = 0.2  # for a handler that goes on although its call is over
OVERSIZED_BYTES: Final = 5 << 20  # above the 4 MiB of a message
KEY_RETENTION_MIN_S: Final = 720 * 3600  # how long a coordinator remembers ended sagas, unless it is configured
