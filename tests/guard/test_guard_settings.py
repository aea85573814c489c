"""Where the guard listens and what it asks of a webhook."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.errors import UserError
from crossfade.guard.settings import GuardSettings


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN", "TOKEN", "TOKEN_FILE"):
        monkeypatch.delenv(f"CROSSFADE_GUARD_{name}", raising=False)


def test_untold_it_listens_on_loopback_without_a_token() -> None:
    settings = GuardSettings.from_environment()
    assert (settings.host, settings.token.get_secret_value()) == ("127.0.0.1", "")


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_GUARD_LISTEN", "off")
    assert GuardSettings.from_environment().host == ""
    assert GuardSettings.from_environment(listen="[::1]:0") == GuardSettings.from_environment(listen="[::1]:0")
    assert (GuardSettings.from_environment(listen="[::1]:81").host, GuardSettings.from_environment(listen="[::1]:81").port) == ("::1", 81)


@pytest.mark.parametrize("listen", ["9097", ":9097", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(UserError, match="write host:port"):
        GuardSettings.from_environment(listen=listen)


@pytest.mark.parametrize("listen", ["0.0.0.0:9097", "[::]:9097", "10.0.0.1:9097", "guard.example:9097"])
def test_others_may_reach_it_only_with_a_token(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="for everybody"):
        GuardSettings.from_environment(listen=listen)
    monkeypatch.setenv("CROSSFADE_GUARD_TOKEN", "s3cret")
    assert GuardSettings.from_environment(listen=listen).host


def test_a_token_comes_from_a_file_that_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("CROSSFADE_GUARD_TOKEN_FILE", str(file))
    with pytest.raises(UserError, match="cannot be read"):
        GuardSettings.from_environment()
    file.write_text("s3cret\n")
    file.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        GuardSettings.from_environment()
    file.chmod(0o600)
    settings = GuardSettings.from_environment()
    assert settings.token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings) + str(settings)
    file.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        GuardSettings.from_environment()
