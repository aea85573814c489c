"""`crossfade journal ...` as a person meets it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from crossfade.judge.breach import Breach, hard_breach
from crossfade.judge.evidence import Counts, Evidence, Interval
from crossfade.judge.gate import Rules, judge
from crossfade.judge.state import begin
from crossfade.plan import parse_plan
from crossfade.ports import Entry
from crossfade.ramp.logbook import Ruling
from crossfade.ramp.rejudge import StoredBreach
from crossfade.ramp.rulebook import digest_of
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

MIGRATION = "chat/lab:latest"
TS0 = 1_764_000_000.0
PLAN = """name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: "lab:latest", huggingface: a/b}]
parity: {skip: "the test of a command line"}
"""
MAIN = (
    "import sys; from crossfade.errors import CrossfadeError\n"
    "from crossfade.journal_commands import journal_app\n"
    "try: journal_app()\n"
    "except CrossfadeError as error: print(f'crossfade: {error}', file=sys.stderr); sys.exit(error.exit_code)"
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal.sqlite"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def once(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CROSSFADE_HOME": str(tmp_path / "home"), "CROSSFADE_JOURNAL": "", "COLUMNS": "200", **more}
        command = [sys.executable, "-c", MAIN, *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return once


def _interval(number: int, errors: int) -> Interval:
    def counts(failed: int) -> Counts:
        fast = ((100.0, 500 - failed), (float("inf"), 500 - failed))
        return Counts(requests=500, errors=failed, ttft=fast, duration=fast)

    start_s = TS0 + 15 * number
    return Interval(start_s=start_s, end_s=start_s + 15, source=counts(0), target=counts(errors))


@pytest.fixture
def journal(path: Path) -> SqlJournal:
    """Two rulings of the real judge and one breach of the real guard's rule, as tick and guard write them."""
    journal = SqlJournal(path)
    source = parse_plan(PLAN, origin="test", folder=Path("/"))
    journal.begin(MigrationState(name=MIGRATION, plan_digest=source.digest, phase_since_s=TS0, share_since_s=TS0), PLAN)
    plan = source.plan
    rules = Rules(gates=dict(plan.gates), ramp=plan.ramp, judge=plan.judge)
    journal.record(Entry(MIGRATION, 1, TS0, "rules", digest_of(rules), rules.model_dump_json()))
    memory = begin("1@0", judge=rules.judge, since_s=TS0, halvings=0)
    for number, intervals in enumerate(((_interval(0, 0),), tuple(_interval(at, 120) for at in range(1, 9)))):
        evidence = Evidence(boundary="step", step=0, share_bp=100, next_share_bp=500, held_s=60.0, intervals=intervals)
        judged = judge(rules, memory, evidence)
        ruling = Ruling(
            rules=digest_of(rules),
            key="1@0",
            since_s=TS0,
            halvings=0,
            evidence=evidence,
            verdict=judged.verdict,
            before=digest_of(memory),
            after=digest_of(judged.state),
        )
        memory = judged.state
        journal.record(Entry(MIGRATION, 1, TS0 + 15 * (number + 1), "decision", "step", ruling.model_dump_json()))
    found = hard_breach(plan.guard, (_interval(9, 400),))
    assert isinstance(found, Breach)
    breach = StoredBreach(reason=found.reason, guard=plan.guard, intervals=(_interval(9, 400),))
    journal.record(Entry(MIGRATION, 1, TS0 + 40, "breach", "chat-lab", breach.model_dump_json()))
    return journal


def _tamper(path: Path, statement: str, *values: str) -> None:
    """As somebody with the file in his hands: the triggers are dropped first."""
    with sqlite3.connect(path) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


def test_show_prints_one_line_an_entry_with_its_reason(journal: SqlJournal, run: Run) -> None:
    done = run("show", MIGRATION)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[3] for line in lines] == ["plan", "rules", "decision", "decision", "breach"]
    assert {len(line) for line in lines} == {6}
    assert lines[2][1].startswith("2025-11-24 16:00:15")
    assert lines[3][5].startswith("roll_back: ")
    assert "requests failed" in lines[4][5]


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        (("--kind", "decision"), ["decision", "decision"]),
        (("--last", "2"), ["decision", "breach"]),
        (("--kind", "decision", "--last", "1"), ["decision"]),
        (("--attempt", "2"), []),
        (("--attempt", "1", "--kind", "breach"), ["breach"]),
    ],
)
def test_show_gives_only_what_was_asked_for(journal: SqlJournal, run: Run, asked: tuple[str, ...], kinds: list[str]) -> None:
    done = run("show", MIGRATION, *asked)
    assert [line.split("\t")[3] for line in done.stdout.splitlines()] == kinds
    assert ("no entry" in done.stderr) == (not kinds)


def test_show_in_a_terminal_is_a_table(journal: SqlJournal, run: Run) -> None:
    assert "subject" in run("show", MIGRATION, FORCE_COLOR="1").stdout.splitlines()[1]


def test_what_an_engine_said_cannot_steer_a_terminal(journal: SqlJournal, run: Run) -> None:
    journal.record(Entry(MIGRATION, 1, TS0, "note", "log", json.dumps({"why": "\x1b[2Jgone\nsecond\tline"})))
    (line,) = run("show", MIGRATION, "--kind", "note").stdout.splitlines()
    assert line.split("\t")[5] == " [2Jgone second line"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("show", "chat/nobody"), MIGRATION),
        (("verify", "chat/nobody"), MIGRATION),
        (("export", "chat/nobody"), MIGRATION),
        (("show", MIGRATION, "--kind", "gossip"), "no entry is of that kind. Use one of: plan,"),
        (("export",), "Name one migration, or say --all"),
        (("export", MIGRATION, "--all"), "Name one migration, or say --all"),
        (("export", "--all", "--output", "nowhere/out"), "No such file or directory"),
        (("export", "--all", "--output", "home"), "home exists already"),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_exit_code_2(journal: SqlJournal, run: Run, asked: tuple[str, ...], said: str) -> None:
    done = run(*asked)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, "")
    assert said in done.stderr


def test_an_export_holds_state_plan_and_every_entry(journal: SqlJournal, run: Run, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run("export", MIGRATION).stdout.splitlines()]
    assert [line["line"] for line in lines] == ["migration", "plan", *["entry"] * 5]
    assert lines[0]["state"]["phase"] == "planned"
    assert lines[1]["text"] == PLAN
    assert [line["id"] for line in lines[2:]] == [entry.id for entry in journal.entries(MIGRATION)]
    assert lines[5]["body"]["verdict"]["decision"] == "roll_back"
    assert "7 lines in out.jsonl" in run("export", "--all", "--output", "out.jsonl").stdout
    out = tmp_path / "out.jsonl"
    assert [json.loads(line) for line in out.read_text().splitlines()] == lines
    assert out.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_an_export_masks_what_is_or_looks_like_a_secret(journal: SqlJournal, run: Run) -> None:
    said = "pull of http://me:pa55word@hub/x?token=abcdef failed with hf_abcdefghijklmnopqrstuvwxyz, Bearer abc.def.ghi, and Quite-a-Secret"
    journal.record(Entry(MIGRATION, 1, TS0, "note", "log", json.dumps({"why": said})))
    shown = run("show", MIGRATION, "--kind", "note", CROSSFADE_GUARD_TOKEN="Quite-a-Secret").stdout
    exported = run("export", MIGRATION, CROSSFADE_GUARD_TOKEN="Quite-a-Secret").stdout
    for text in (shown, exported):
        assert "pull of http://***@hub/x?token=*** failed with hf_***, Bearer ***, and ***" in text
        assert "pa55word" not in text


def test_verify_of_an_honest_journal_says_what_it_judged_again(journal: SqlJournal, run: Run) -> None:
    done = run("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{MIGRATION}: 2 decisions and 1 breaches judged again, all the same; 5 entries in an unbroken chain" in done.stdout


def test_verify_names_a_decision_that_does_not_follow_from_its_evidence(journal: SqlJournal, path: Path, run: Run) -> None:
    """Also where the chain was computed anew: written by the journal itself, as a lying process would."""
    ruling = Ruling.model_validate_json(journal.entries(MIGRATION, kind="decision", newest=1)[0].body)
    kinder = ruling.verdict.model_copy(update={"reason": "all is well"})
    lie = ruling.model_copy(
        update={"verdict": kinder, "before": ruling.after, "evidence": ruling.evidence.model_copy(update={"intervals": ()})}
    )
    journal.record(Entry(MIGRATION, 1, TS0 + 50, "decision", "step", lie.model_dump_json()))
    done = run("verify", MIGRATION)
    assert done.returncode == 1
    assert f"{MIGRATION}: entry 6: it says roll_back (all is well)" in done.stdout
    assert "1 difference in the journal" in done.stderr


def test_verify_names_a_breach_that_its_counts_do_not_show(journal: SqlJournal, path: Path, run: Run) -> None:
    stored = StoredBreach.model_validate_json(journal.entries(MIGRATION, kind="breach")[0].body)
    lie = stored.model_copy(update={"intervals": (_interval(9, 0),)})
    journal.record(Entry(MIGRATION, 1, TS0 + 50, "breach", "chat-lab", lie.model_dump_json()))
    done = run("verify")
    assert (done.returncode, f"{MIGRATION}: entry 6: it says" in done.stdout) == (1, True)


def test_verify_names_an_edited_and_a_removed_line(journal: SqlJournal, path: Path, run: Run) -> None:
    _tamper(path, "UPDATE entries SET at_s = at_s - 1 WHERE id = ?", "5")
    done = run("verify")
    assert done.returncode == 1
    assert f"{MIGRATION}: chain: entry 5 (breach chat-lab) does not follow from entry 4" in done.stdout
    _tamper(path, "DELETE FROM entries WHERE id = ?", "3")
    done = run("verify")
    assert "chain: entry 4 (decision step) does not follow from entry 2" in done.stdout
    assert "entry 4: a ruling before it is missing or was changed" in done.stdout


def test_verify_finds_another_plan_under_the_same_digest(journal: SqlJournal, path: Path, run: Run) -> None:
    digest = sha256(PLAN.encode()).hexdigest()
    _tamper(path, "UPDATE plans SET text = ? WHERE digest = ?", PLAN.replace("a/b", "c/d"), digest)
    done = run("verify")
    assert (done.returncode, "entry 1: the plan stored under this digest is another one" in done.stdout) == (1, True)


def test_an_empty_journal_has_nothing_to_verify_and_says_so(run: Run) -> None:
    done = run("verify")
    assert (done.returncode, "no migrations yet" in done.stdout) == (0, True)
