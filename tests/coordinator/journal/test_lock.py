import os
from pathlib import Path

import pytest

from coordinator.journal.errors import JournalLocked
from coordinator.journal.lock import FileLock


def test_one_holder_at_a_time_and_the_other_is_told_which(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with FileLock(path):
        with pytest.raises(JournalLocked, match=str(os.getpid())) as caught, FileLock(path):
            pass
        assert caught.value.holder_pid == os.getpid()
        assert caught.value.path == str(path)
    with FileLock(path):
        pass


def test_a_refused_lock_does_not_let_the_holders_go(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with FileLock(path):
        for _ in range(2):
            with pytest.raises(JournalLocked), FileLock(path):
                pass


def test_what_a_dead_holder_wrote_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    lock_file = tmp_path / "journal.db.lock"
    lock_file.write_text("123456789123456789\n")
    with FileLock(path):
        assert lock_file.read_text() == f"{os.getpid()}\n"


def test_a_holder_that_has_not_written_its_id_yet_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with FileLock(path):
        (tmp_path / "journal.db.lock").write_text("")
        with pytest.raises(JournalLocked) as caught, FileLock(path):
            pass
        assert caught.value.holder_pid is None


def test_locks_of_different_journals_do_not_meet(tmp_path: Path) -> None:
    with FileLock(tmp_path / "a.db"), FileLock(tmp_path / "b.db"):
        pass


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), FileLock(tmp_path / "nowhere" / "journal.db"):
        pass
