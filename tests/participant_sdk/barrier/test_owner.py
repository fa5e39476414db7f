from pathlib import Path

from participant_sdk.barrier.owner import Owner


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_lives_from_its_claim_to_its_release(tmp_path: Path) -> None:
    one, other = Owner(tmp_path / "a.db", "one"), Owner(tmp_path / "a.db", "other")
    assert not other.lives("one")
    one.claim()
    one.claim()
    assert other.lives("one")
    assert files(tmp_path) == ["a.db-owner-one"]
    one.release()
    assert not other.lives("one")
    assert files(tmp_path) == []


def test_release_without_claim_does_nothing(tmp_path: Path) -> None:
    Owner(tmp_path / "a.db", "one").release()


def test_sweep_takes_away_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    living = Owner(tmp_path / "a.db", "living")
    living.claim()
    for name in ("a.db-owner-dead", "b.db-owner-dead", "a.db"):
        (tmp_path / name).touch()
    Owner(tmp_path / "a.db", "me").sweep()
    assert files(tmp_path) == ["a.db", "a.db-owner-living", "b.db-owner-dead"]
    assert Owner(tmp_path / "a.db", "me").lives("living")
    living.release()
