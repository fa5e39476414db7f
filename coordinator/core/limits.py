"""Every limit and every default of the coordinator, in one place (G14).

A number that bounds a queue, a retry, a payload, a page, a stream or a cache stands here and nowhere else; the
comments of the `.proto` files repeat those that a caller meets. Durations are nanoseconds and say so (`_NS`), sizes
are bytes.

This module must not import anything of the project.
"""

from typing import Final

MILLISECOND_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

# Names and texts.
SAGA_ID_LENGTH_MAX: Final = 128
DEFINITION_NAME_LENGTH_MAX: Final = 128
NAME_LENGTH_MAX: Final = 64  # steps
ACTION_NAME_LENGTH_MAX: Final = DEFINITION_NAME_LENGTH_MAX  # a definition is an action too
DESCRIPTION_BYTES_MAX: Final = 4096
FAILURE_MESSAGE_BYTES_MAX: Final = 1024
FAILURE_REASON_BYTES_MAX: Final = 64
FAILURE_METADATA_ENTRIES_MAX: Final = 32
FAILURE_METADATA_BYTES_MAX: Final = 4096
REASON_BYTES_MAX: Final = 1024  # why a client cancels, for people
CONTEXT_TEXT_BYTES_MAX: Final = 2048  # uids and keys of another coordinator
LABELS_MAX: Final = 64
LABEL_KEY_LENGTH_MAX: Final = 63
LABEL_VALUE_BYTES_MAX: Final = 256
EXCLUSIVE_KEY_BYTES_MAX: Final = 256

# Definitions.
STEPS_MAX: Final = 1024
EXPRESSION_BYTES_MAX: Final = 16_384
EXPRESSION_WORK_MAX: Final = 256 << 20  # bytes that one evaluation may make or read: at most 1 or 2 s, and its memory
EXCLUSIVE_KEYS_MAX: Final = 16
DEFINITION_BYTES_MAX: Final = 1 << 20
DESCRIPTOR_BYTES_MAX: Final = 4 << 20
ACTIONS_MAX: Final = 256
HOLD_MARGIN_DEFAULT_NS: Final = 30 * SECOND_NS

# Payloads and messages.
PAYLOAD_BYTES_MAX: Final = 1 << 20
MESSAGE_BYTES_MAX: Final = 4 << 20
ERROR_DETAIL_BYTES_MAX: Final = 4096

# Attempts.
ATTEMPT_TIMEOUT_DEFAULT_NS: Final = 10 * SECOND_NS
ATTEMPT_TIMEOUT_MIN_NS: Final = MILLISECOND_NS
ATTEMPT_TIMEOUT_MAX_NS: Final = HOUR_NS
INITIAL_BACKOFF_DEFAULT_NS: Final = 100 * MILLISECOND_NS
INITIAL_BACKOFF_MIN_NS: Final = MILLISECOND_NS
INITIAL_BACKOFF_MAX_NS: Final = HOUR_NS
BACKOFF_MULTIPLIER_DEFAULT: Final = 2.0
BACKOFF_MULTIPLIER_MAX: Final = 10.0
MAX_BACKOFF_DEFAULT_NS: Final = 30 * SECOND_NS
MAX_BACKOFF_MAX_NS: Final = DAY_NS
EXECUTE_ATTEMPTS_DEFAULT: Final = 5
COMPENSATE_ATTEMPTS_DEFAULT: Final = 20
UNLIMITED: Final = 0
ATTENTION_AFTER_ATTEMPTS: Final = 10  # a step that must go forward is then marked for an operator
POLL_AFTER_DEFAULT_NS: Final = 30 * SECOND_NS
POLL_AFTER_MIN_NS: Final = 10 * MILLISECOND_NS
POLL_AFTER_MAX_NS: Final = DAY_NS

# Sagas.
SAGA_TIMEOUT_MAX_NS: Final = 366 * DAY_NS
START_AHEAD_MAX_NS: Final = 366 * DAY_NS
SAGA_DEPTH_MAX: Final = 8  # sagas above a saga, each a step of the next
CHILD_POLL_MIN_NS: Final = 50 * MILLISECOND_NS  # a parent looks at its child the less often the longer it is quiet
CHILD_POLL_MAX_NS: Final = 30 * SECOND_NS
OWN_CHILD_POLL_MAX_NS: Final = 10 * MINUTE_NS  # where both run here the child tells its parent, so that polls are spare
UNFINISHED_SAGAS_MAX: Final = 100_000
ADMISSION_RETRY_AFTER_NS: Final = SECOND_NS

# The API.
PAGE_SIZE_DEFAULT: Final = 50
EVENTS_PAGE_SIZE_DEFAULT: Final = 100
DEFINITIONS_PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
WAIT_DEFAULT_NS: Final = 30 * SECOND_NS
WAIT_MAX_NS: Final = 10 * MINUTE_NS
CALLS_MAX: Final = 2048  # short calls under way at a time
STREAMS_MAX: Final = 4096  # waits, watches and streams of starts under way at a time
STARTS_PER_STREAM_MAX: Final = 512  # not answered yet, those that only wait left out; more are not read meanwhile
STARTS_AT_ONCE_MAX: Final = 64  # not durable yet; the others wait their turn
BEHIND_MAX_NS: Final = SECOND_NS  # once a start, or a call to a participant, has waited so long, no more are taken
REFLECTION_STREAMS_MAX: Final = 64  # clients end theirs once they know the types
REFLECTION_ANSWER_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2  # clients ask for further imports by name
WATCH_BUFFER_EVENTS: Final = 256

# The engine.
CALLS_PER_PARTICIPANT_MAX: Final = 256
JOURNAL_QUEUE_EVENTS_MAX: Final = 65_536
JOURNAL_GROUP_EVENTS_MAX: Final = 4096
JOURNAL_QUEUE_BYTES_MAX: Final = 256 << 20
JOURNAL_GROUP_BYTES_MAX: Final = 16 << 20
JOURNAL_PROBE_INTERVAL_NS: Final = SECOND_NS  # how often a journal that failed is tried again while nothing is appended
JOURNAL_BUSY_TIMEOUT_NS: Final = 5 * SECOND_NS  # for a backup or a shell on the same file
JOURNAL_CACHE_BYTES: Final = 32 << 20
JOURNAL_WAL_BYTES_KEPT: Final = 64 << 20  # a longer write-ahead log is cut back when it starts over
JOURNAL_FREE_BYTES_KEPT: Final = 64 << 20  # free room in the file beyond that is given back to the file system
RETENTION_INTERVAL_NS: Final = MINUTE_NS
RETENTION_BATCH_SAGAS: Final = 100  # what one change of the journal may delete; live appends go in between
RETENTION_BATCH_EVENTS: Final = 4096  # a single saga with more passes alone
RETENTION_PAUSE_NS: Final = 20 * MILLISECOND_NS  # between two batches
RETENTION_RECLAIM_BYTES: Final = 1 << 20  # given back to the file system in one change of the journal
TOMBSTONE_RETENTION_DEFAULT_NS: Final = 30 * DAY_NS
ARCHIVE_LINE_BYTES_MAX: Final = 256 << 20  # one saga in an exported file; an unpacked line beyond that is refused
IMPORT_BATCH_EVENTS: Final = JOURNAL_GROUP_EVENTS_MAX
RECOVERY_PAGE: Final = 1024
TAKE_UP_BATCH: Final = 64  # sagas that are read back together
DRIVEN_SAGAS: Final = 1024  # while so many are driven, those that wait are read back at a slow, steady pace
TAKE_UP_PAUSE_NS: Final = 100 * MILLISECOND_NS  # between two batches at that pace
REST_AFTER_NS: Final = SECOND_NS  # a saga rests once nothing has happened for so long, and nothing will for as long
REST_EVENTS: Final = 50  # as much longer for each so many events: reading them back takes about a thousandth of that
CLOCK_LOOK_NS: Final = MINUTE_NS  # how late a clock that was set forward may be noticed by sagas that rest
DEFINITION_CACHE_MAX: Final = 256
DRAIN_DEFAULT_NS: Final = 10 * SECOND_NS

# Participants.
DESCRIBE_TIMEOUT_NS: Final = 5 * SECOND_NS
CONNECT_BACKOFF_MAX_NS: Final = 5 * SECOND_NS
UNANSWERED_CALLS_MAX: Final = 16  # one after the other: then calls are held back, but for one at a time that probes
PROBE_BACKOFF_INITIAL_NS: Final = 500 * MILLISECOND_NS
PROBE_BACKOFF_MAX_NS: Final = 5 * SECOND_NS  # below the usual timeout of an attempt: who is held back sees a probe
COMPARED_MESSAGES_MAX: Final = 10_000  # pairs of messages below one type of an action
COMPATIBILITY_INTERVAL_NS: Final = 5 * MINUTE_NS  # and at once when a participant describes itself otherwise
COMPATIBILITY_WARNINGS_MAX: Final = 100  # lines in the log that one look at all participants can lead to

# The fast lane to participants.
EXCHANGE_IN_FLIGHT_DEFAULT: Final = 256  # where a participant does not say how many calls it takes at a time
EXCHANGE_MESSAGE_BYTES_MAX: Final = 1 << 20  # a call that is larger by itself goes by a unary call
EXCHANGE_OPEN_TIMEOUT_NS: Final = 5 * SECOND_NS  # until the first message of the participant
EXCHANGE_BACKOFF_INITIAL_NS: Final = 100 * MILLISECOND_NS
EXCHANGE_BACKOFF_MAX_NS: Final = 30 * SECOND_NS
EXCHANGE_DRAIN_TIMEOUT_NS: Final = SECOND_NS  # for a stream that has no call in flight when the coordinator stops
EXCHANGE_FORGOTTEN_MAX: Final = 1024  # deadlines kept of calls that are answered, beyond those that are not
