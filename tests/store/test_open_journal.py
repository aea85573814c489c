"""Which journal is meant."""

from pathlib import Path

import pytest

from crossfade.errors import UserError
from crossfade.home import Home
from crossfade.store import open_journal


@pytest.mark.parametrize("told", [None, "", "  "])
def test_without_a_word_it_is_the_file_in_the_home(told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROSSFADE_JOURNAL", raising=False)
    if told is not None:
        monkeypatch.setenv("CROSSFADE_JOURNAL", told)
    assert repr(open_journal(Home(tmp_path))) == f"SqlJournal({tmp_path / 'journal.sqlite'})"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("s3cret", "is no address"),
        ("postgresql://user:s3cret@host:port/db", "is no address"),
        ("mysql://user:s3cret@host/db", "begins with mysql://"),
        ("sqlite:///s3cret.sqlite", "begins with sqlite://"),
        ("postgresql://user:s3cret@host", "names no database"),
        ("postgresql://user:s3cret@host/", "names no database"),
        ("postgresql://user:p@s3cret@host/db", "has an @ too many"),
    ],
)
def test_an_address_that_cannot_be_is_the_users_mistake_and_stays_secret(
    told: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSFADE_JOURNAL", told)
    with pytest.raises(UserError, match=said) as error:
        open_journal(Home(tmp_path))
    assert "s3cret" not in str(error.value)
    assert "postgresql://user:password@host:5432/database" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_home_of_nobody_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_HOME", "~nobody-of-that-name/crossfade")
    with pytest.raises(UserError, match="CROSSFADE_HOME=~nobody-of-that-name"):
        Home.from_environment()


def test_an_empty_home_means_the_default_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CROSSFADE_HOME", "")
    assert Home.from_environment().root == tmp_path / ".crossfade"
