import inspect

from coordinator.journal import errors


def test_the_tree_in_the_docstring_is_the_hierarchy() -> None:
    lines = (errors.__doc__ or "").splitlines()
    drawn = [line for line in lines if line.strip().startswith(("JournalError", "├", "└", "│"))]
    parents: list[str] = []
    for line in drawn:
        depth, name = _branch(line)
        parents[depth:] = [name]
        kind = getattr(errors, name)
        assert kind.__base__.__name__ == (parents[depth - 1] if depth else "Exception")
    kinds = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(drawn) == len(kinds)


def _branch(line: str) -> tuple[int, str]:
    """How deep a line of the tree stands, and the name on it."""
    name = line.lstrip(" │├└─").split()[0]
    return (line.index(name) - 4) // 4, name


def test_a_lock_says_who_holds_it_or_that_it_is_not_known() -> None:
    assert "process id 42" in str(errors.JournalLocked("/j.db", 42))
    assert "another coordinator" in str(errors.JournalLocked("/j.db", None))


def test_a_schema_that_is_too_new_says_both_versions_and_what_to_do() -> None:
    text = str(errors.SchemaTooNew("/j.db", 7, 1))
    assert "version 7" in text
    assert "up to 1" in text
    assert "newer" in text


def test_a_schema_that_is_too_old_says_who_brings_it_up_to_date() -> None:
    assert "saga serve" in str(errors.SchemaTooOld("/j.db", 1, 2))
