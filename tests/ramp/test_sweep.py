"""One sweep over many migrations: real router, real journal, a Prometheus that nobody started, so that whoever is ticked holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ramp_desk import TS0, HandClock, start_envoy

from crossfade import processes
from crossfade.envoy.router import EnvoyRouter
from crossfade.home import Home
from crossfade.ports import Entry
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.sweep import Due, NotDue, Sweep, due, summary, sweep, worth_telling

PLAN = """
name: {name}
source: {{url: "http://127.0.0.1:1"}}
models: [{{ollama: "{name}", huggingface: a/b}}]
prometheus: {{url: "http://127.0.0.1:1", timeout: 1s}}
gates: {{error_rate: {{at_most: 1%}}}}
ramp: {{every: 20s}}
"""

LONG_S = 60.0


@pytest.fixture(scope="module")
def envoys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home, envoy = start_envoy(tmp_path_factory.mktemp("sweep"))
    yield home.root
    processes.stop(envoy, deadline_s=5)


@pytest.fixture
def home(envoys: Path) -> Iterator[Home]:
    home = Home(envoys)
    for journal in envoys.glob("journal.sqlite*"):
        journal.unlink()
    yield home
    router = EnvoyRouter(home.router)
    for route in router.table().routes:
        router.remove(route.name, expect=router.table().generation)
        router.resume(route.name)


def ramping(home: Home, name: str, *, phase: Phase = Phase.RAMPING, plan: str = PLAN) -> MigrationState:
    """A migration with a tenth of its users on the target, in journal and router."""
    journal, router, migration = SqlJournal(home.journal), EnvoyRouter(home.router), f"{name}/{name}"
    first = MigrationState(name=migration, plan_digest=f"of {name}", phase_since_s=TS0, share_since_s=TS0)
    begun = journal.begin(first, plan.format(name=name))
    moved = begun.model_copy(update={"phase": phase, "step": 0, "share_bp": 1000})
    router.apply(ModelRoute(name=route_name(migration), models=(name,), share_bp=1000), expect=router.table().generation)
    return journal.move(moved, Entry(migration, 1, TS0, "note", "set by a test", '{"why": "test"}'))


def became(done: Sweep) -> dict[str, str]:
    return {one.attempt.migration: one.became for one in done.swept}


@pytest.mark.parametrize(
    ("phase", "ruled_s", "expected"),
    [
        (Phase.RAMPING, None, Due),
        (Phase.RAMPING, TS0 - 20, Due),
        (Phase.RAMPING, TS0 - 16, Due),  # a sweep that comes every 20 s may come 4 s early
        (Phase.RAMPING, TS0 - 14, NotDue),
        (Phase.RAMPING, TS0 + 5, Due),  # a clock that was set back must not stop the ramp
        (Phase.REHEARSED, None, Due),
        (Phase.SOAKING, TS0 - 30, Due),
        (Phase.ROLLING_BACK, TS0 - 1, Due),
        (Phase.SERVING, None, NotDue),
        (Phase.FINISHED, None, NotDue),
    ],
)
def test_a_migration_is_due_when_its_last_ruling_is_as_old_as_its_interval(
    phase: Phase, ruled_s: float | None, expected: type[Due | NotDue]
) -> None:
    state = MigrationState(name="a/b", plan_digest="d", phase_since_s=TS0, share_since_s=TS0, phase=phase)
    assert isinstance(due(state, ruled_s=ruled_s, every_s=20, now_s=TS0), expected)


def test_all_that_are_due_have_one_tick_and_the_next_sweep_leaves_them_alone(home: Home) -> None:
    clock = HandClock(TS0 + 100)
    for name in ("a", "b", "c"):
        ramping(home, name)
    assert became(sweep(home, within_s=LONG_S, clock=clock)) == {"a/a": "held", "b/b": "held", "c/c": "held"}
    again = sweep(home, within_s=LONG_S, clock=clock)
    assert (again.swept, again.not_due, again.left) == ((), 3, 0)
    clock.sleep(20)
    assert len(sweep(home, within_s=LONG_S, clock=clock).swept) == 3
    assert [len(SqlJournal(home.journal).entries(f"{name}/{name}", kind="decision")) for name in "abc"] == [2, 2, 2]


def test_one_broken_plan_is_told_of_and_does_not_stop_the_others(home: Home) -> None:
    ramping(home, "good")
    ramping(home, "odd", plan="name: [{name}")
    done = sweep(home, within_s=LONG_S, clock=HandClock(TS0 + 100))
    assert became(done) == {"good/good": "held", "odd/odd": "failed"}
    [told] = worth_telling(done.swept)
    assert "plan of odd" in told.reason
    assert summary(done).startswith("2 of 2 under way looked at")
    assert SqlJournal(home.journal).state("odd/odd").share_bp == 1000


def test_a_latched_migration_ends_on_the_source_and_the_others_go_on(home: Home) -> None:
    ramping(home, "well")
    ramping(home, "ill")
    router = EnvoyRouter(home.router)
    router.trip("ill.ill", why="a breach", by="guard", at_s=TS0)
    done = sweep(home, within_s=LONG_S, clock=HandClock(TS0 + 100))
    [ended] = [one for one in done.swept if one.ended]
    assert (ended.attempt.migration, ended.became, ended.share_bp) == ("ill/ill", "rolled_back", 0)
    assert "a breach" in ended.tell
    assert SqlJournal(home.journal).state("ill/ill").phase is Phase.ROLLED_BACK
    assert [router.observed().route(name).share_bp for name in ("ill.ill", "well.well")] == [0, 1000]


def test_a_rollback_that_somebody_began_is_finished_whenever_it_was_last_looked_at(home: Home) -> None:
    ramping(home, "half", phase=Phase.ROLLING_BACK)
    assert became(sweep(home, within_s=LONG_S, clock=HandClock(TS0))) == {"half/half": "rolled_back"}
    assert EnvoyRouter(home.router).observed().route("half.half").share_bp == 0


def test_without_time_none_is_begun_and_those_that_waited_longest_come_first(home: Home) -> None:
    clock = HandClock(TS0 + 100)
    for name in ("a", "b"):
        ramping(home, name)
    none = sweep(home, within_s=0, clock=clock)
    assert (none.swept, none.left) == ((), 2)
    assert "2 had no time left" in summary(none)
    sweep(home, within_s=LONG_S, clock=clock)
    clock.sleep(30)
    ramping(home, "never")
    assert sweep(home, within_s=LONG_S, clock=clock, at_once=1).swept[0].attempt.migration == "never/never"


def test_a_sweep_that_another_tick_overtook_moves_nothing_and_says_so(home: Home) -> None:
    ramping(home, "both")
    before_its_ruling = {"CROSSFADE_FAILPOINT": "before-decision", "CROSSFADE_FAILPOINT_ALLOW": "1", "CROSSFADE_FAILPOINT_STOP": "1"}
    slow = _swept_in_a_process(home, before_its_ruling)
    try:
        _until_it_stands(slow)
        assert became(sweep(home, within_s=LONG_S)) == {"both/both": "held"}
        slow.send_signal(signal.SIGCONT)
        said = json.loads(slow.communicate(timeout=60)[0])
    finally:
        slow.kill()
    assert said["became"] == ["skipped"]
    assert "moved by somebody else" in said["reason"]
    assert len(SqlJournal(home.journal).entries("both/both", kind="decision")) == 1


def _swept_in_a_process(home: Home, extra: dict[str, str]) -> subprocess.Popen[str]:
    script = (
        "import json\nfrom crossfade.home import Home\nfrom crossfade.sweep import sweep\n"
        "done = sweep(Home.from_environment(), within_s=60)\n"
        "print(json.dumps({'became': [one.became for one in done.swept], 'reason': done.swept[0].reason}))\n"
    )
    env = {**os.environ, "CROSSFADE_HOME": str(home.root), **extra}
    return subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True)


def _until_it_stands(process: subprocess.Popen[str]) -> None:
    give_up_s = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, "the sweep ended before it came by its failpoint"
        assert time.monotonic() < give_up_s, "the sweep never came by its failpoint"
        time.sleep(0.05)
