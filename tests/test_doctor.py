from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade.doctor import Check, examine
from crossfade.home import Home


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def checks(folder: Path) -> Iterator[dict[str, Check]]:
    """One examination of a machine on which nothing is built and Ollama is broken."""
    broken = folder / "bin" / "ollama"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{broken.parent}:/bin")
        patch.delenv("CROSSFADE_ENVIRONMENTS", raising=False)
        yield {check.what: check for check in examine(Home(folder / "home"), lab=folder / "lab")}


def of(checks: dict[str, Check], beginning: str) -> Check:
    (check,) = (check for what, check in checks.items() if what.lower().startswith(beginning))
    return check


def test_what_the_tests_themselves_run_on_is_found(checks: dict[str, Check]) -> None:
    assert {of(checks, name).ok for name in ("python", "prefect", "fastapi", "sqlalchemy")} == {"found"}


def test_an_environment_that_is_not_built_is_missing_with_the_command_that_builds_it(checks: dict[str, Check]) -> None:
    vllm = of(checks, "environment vllm")
    assert vllm.ok == "missing"
    assert vllm.how_to_get.startswith("crossfade environment vllm")


def test_only_what_every_migration_needs_is_called_missing(checks: dict[str, Check]) -> None:
    assert of(checks, "environment autoawq").ok == "optional"
    assert of(checks, "nvidia").ok in ("found", "optional")


def test_a_program_that_is_there_but_does_not_run_is_not_called_found(checks: dict[str, Check]) -> None:
    ollama = of(checks, "ollama")
    assert ollama.ok == "optional"
    assert "no such library" in ollama.detail


def test_everything_not_found_says_how_to_get_it(checks: dict[str, Check]) -> None:
    assert [check.what for check in checks.values() if check.ok != "found" and not check.how_to_get] == []


def test_looking_makes_nothing(checks: dict[str, Check], folder: Path) -> None:
    assert checks
    assert [path.name for path in folder.iterdir()] == ["bin"]
