"""Everything a journal raises.

    JournalError
    ├── Conflict              a sequence of that saga is taken, or is not the next one: another driver (G12)
    ├── SagaExists            a saga of that id, or uid, is there already, or was and has left a tombstone
    ├── DefinitionExists      that version of the definition is there already and says something else
    ├── SagaNotFound          no saga of that id
    ├── UnreadableSaga        an unknown event or a corrupt row: this saga alone cannot be read (rule 11)
    ├── JournalUnavailable    the disk cannot be written or read; of an append: it may or may not be durable
    └── JournalUnusable       the file cannot be opened as a journal; trying again does not help
        ├── JournalLocked     another coordinator has it
        ├── NotAJournal       it is something else
        ├── SchemaTooNew      a newer program has changed its schema
        └── SchemaTooOld      an older program made it, and who only reads cannot bring it up to date

Wrong use by the program itself (events out of order, an append without its index) is a ValueError, not one of these.
This module must not import anything of the project.
"""


class JournalError(Exception):
    """The journal could not do what it was asked."""


class Conflict(JournalError):
    """The events do not follow the saga's last one: somebody else drives it (G12). Nothing was written."""

    def __init__(self, saga_id: str, sequence: int, last_sequence: int) -> None:
        super().__init__(f"saga {saga_id!r} stands at sequence {last_sequence}; {sequence} cannot be appended")
        self.saga_id = saga_id
        self.sequence = sequence
        self.last_sequence = last_sequence


class SagaExists(JournalError):
    """A saga of that id or uid exists already, or was retired and left a tombstone. Nothing was written."""

    def __init__(self, saga_id: str) -> None:
        super().__init__(f"saga {saga_id!r} exists already")
        self.saga_id = saga_id


class DefinitionExists(JournalError):
    """That version of the definition exists already with another content. Nothing was written."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"version {version} of the definition {name!r} exists already and says something else")
        self.name = name
        self.version = version


class SagaNotFound(JournalError):
    """There is no saga of that id."""

    def __init__(self, saga_id: str) -> None:
        super().__init__(f"there is no saga {saga_id!r}")
        self.saga_id = saga_id


class UnreadableSaga(JournalError):
    """One saga's events cannot be read; `reason` says why, for people. Others are not affected (rule 11)."""

    def __init__(self, saga_id: str, reason: str) -> None:
        super().__init__(f"saga {saga_id!r} cannot be read: {reason}")
        self.saga_id = saga_id
        self.reason = reason


class JournalUnavailable(JournalError):
    """The disk cannot be written or read now. An append that raises this may or may not be durable (rule 3)."""


class JournalUnusable(JournalError):
    """The file cannot be opened as a journal."""


class JournalLocked(JournalUnusable):
    """Another coordinator has the journal; `holder_pid` is its process id, None where it is not known."""

    def __init__(self, path: str, holder_pid: int | None) -> None:
        holder = "another coordinator" if holder_pid is None else f"the coordinator with process id {holder_pid}"
        super().__init__(f"{path} is in use by {holder}; a journal serves one coordinator at a time")
        self.path = path
        self.holder_pid = holder_pid


class NotAJournal(JournalUnusable):
    """The file is not a saga journal; it was left as it is."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(f"{path} is not a saga journal ({found}); it was left as it is")
        self.path = path


class SchemaTooNew(JournalUnusable):
    """A newer program has written the file; it was left as it is."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema version {found}, and this program knows versions up to {known}: "
            "run the program that wrote it, or a newer one"
        )
        self.path = path
        self.found = found
        self.known = known


class SchemaTooOld(JournalUnusable):
    """An older program has written the file, and whoever only reads it cannot bring it up to date."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema version {found}, and this program reads version {known}: "
            "`saga serve` brings it up to date when it opens it"
        )
        self.path = path
        self.found = found
        self.known = known
