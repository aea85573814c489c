"""`crossfade ...`: what a person types. Each command does one thing and says what to do next."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crossfade.errors import CrossfadeError, UserError
from crossfade.home import Home
from crossfade.journal_commands import journal_app
from crossfade.lab.stack import Lab
from crossfade.lab.which import lab_folder, this_lab, use_lab_if_it_is_up
from crossfade.lab_commands import lab_app
from crossfade.ramp_commands import ramp_app
from crossfade.weights_commands import weights_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
plan_app = typer.Typer(no_args_is_help=True, help="Write, check and show plans.")
app.add_typer(plan_app, name="plan")
app.add_typer(ramp_app, name="ramp")
app.add_typer(journal_app, name="journal")
app.add_typer(weights_app, name="weights")
app.add_typer(lab_app, name="lab")

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C, a closed terminal or a polite kill has ended."""

console = Console()
PlanFile = Annotated[str, typer.Argument(help="The plan's YAML file.", metavar="PLAN")]
Name = Annotated[str, typer.Argument(help="plan/model, as 'crossfade status' lists it.", metavar="NAME")]


def main() -> None:
    """Run a command; a user's mistake ends with one message and exit code 2, a failure with one and code 1."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _as_interrupt)
    try:
        app()
    except CrossfadeError as error:
        print(f"crossfade: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(INTERRUPTED)
    except SystemExit as ending:  # typer makes this of a KeyboardInterrupt, without a word
        if ending.code == INTERRUPTED:
            _say_interrupted()
        raise


def _say_interrupted() -> None:
    print("crossfade: interrupted.", file=sys.stderr)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    """A closed terminal or a polite kill cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


@plan_app.command("init")
def plan_init(path: Annotated[Path, typer.Argument()] = Path("plan.yaml")) -> None:
    """Write an example plan to start from, and example prompts beside it; never overwrites a file."""
    from crossfade.plan.show import EXAMPLE_SUITE_NAME, example_plan, example_suite

    suite = path.with_name(EXAMPLE_SUITE_NAME)
    try:
        with path.open("x", encoding="utf-8") as plan:
            plan.write(example_plan())
        if not suite.exists():
            suite.write_text(example_suite(), encoding="utf-8")
            _say(f"{suite} written: put your own prompts there, a hundred or more")
    except FileExistsError:
        raise UserError(f"{path} exists already. Name another file, or remove it first.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}. Name a file in a folder that exists and is yours.") from None
    _say(f"{path} written. Edit it, then: crossfade plan check {path}")


@plan_app.command("check")
def plan_check(plan: PlanFile) -> None:
    """Say what is wrong with a plan, with file and line, or that nothing is."""
    from crossfade.plan import load_plan

    source = load_plan(plan)
    console.print(f"{plan}: good. It makes {', '.join(source.plan.migration_names())}.")


@plan_app.command("show")
def plan_show(plan: PlanFile) -> None:
    """The plan with every default filled in."""
    from crossfade.plan import load_plan
    from crossfade.plan.show import show_plan

    print(show_plan(load_plan(plan).plan), end="")


@plan_app.command("schema")
def plan_schema_command() -> None:
    """JSON schema of a plan, for editors."""
    from crossfade.plan.show import plan_schema

    print(plan_schema())


@app.command()
def migrate(
    plan: PlanFile,
    watch: Annotated[bool, typer.Option(help="Stay and show progress; Ctrl-C only stops watching.")] = True,
    inline: Annotated[bool, typer.Option(help="Tick in the migrate run itself instead of on a schedule.")] = False,
) -> None:
    """Start the `migrate` deployment with this plan."""
    from crossfade.commands import start_migration

    use_lab_if_it_is_up()
    start_migration(plan, console, watch=watch, inline=inline)


@app.command()
def status(name: Annotated[str, typer.Argument(help="One migration; default: all.")] = "") -> None:
    """Phase, share asked, in force and observed, gates, latch, last decisions, and what each migration waits for."""
    from crossfade.status import show_status

    use_lab_if_it_is_up()
    show_status(console, name)


@app.command()
def rollback(name: Name, why: Annotated[str, typer.Option(help="Goes into latch and journal.")] = "asked for on the command line") -> None:
    """Put a model's requests back on the source, now. Needs neither Prefect nor Prometheus."""
    from crossfade.commands import roll_back_now

    use_lab_if_it_is_up()
    roll_back_now(console, name, why)


@app.command()
def tick(name: Name) -> None:
    """Judge a migration once and move it at most one step, as its schedule does; needs no Prefect."""
    from crossfade.tick_command import tick_once

    use_lab_if_it_is_up()
    _say(tick_once(name))


@app.command()
def guard(
    listen: Annotated[str, typer.Option(help="Where alerts, /healthz and /metrics are served; `off` for nowhere.")] = "",
) -> None:
    """Run the resident guard: trips a failing target without waiting for anybody."""
    from crossfade.guard.__main__ import run

    use_lab_if_it_is_up()
    run(Home.from_environment(), listen=listen)


@app.command()
def doctor() -> None:
    """What is installed, what is missing, and how to get it."""
    from crossfade.doctor import examine

    if lab_folder().exists():
        this_lab()  # the environments of this checkout are the ones to look at
    table = Table("what", "", "found", "how to get it")
    checks = examine(Home.from_environment())
    for check in checks:
        table.add_row(check.what, check.ok, check.detail, "" if check.ok == "found" else check.how_to_get)
    console.print(table)
    if any(check.ok == "missing" for check in checks):
        raise typer.Exit(1)


@app.command()
def environment(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Build the Python environments of tools that cannot live in Crossfade's own (vllm, llmcompressor, autoawq)."""
    from crossfade.runtime.environments import build

    for name in names:
        build(name, Home.from_environment(), _say)


@app.command()
def up() -> None:
    """Start the one-machine lab and leave it running."""
    from crossfade.lab.up import bring_up

    lab = this_lab()
    bring_up(lab, _say)
    _say(f"Prefect UI:   {lab.prefect_api.removesuffix('/api')}")
    _say(f"plan:         {lab.folder / 'plan.yaml'}")
    _say(f"              start 'migrate' with that file in the UI, or: crossfade migrate {lab.folder / 'plan.yaml'}")
    _say(f"clients talk: http://127.0.0.1:{lab.ports.router}")
    _say("stop it all:  crossfade down")


@app.command()
def down() -> None:
    """Stop everything of the lab, also what a killed run left behind."""
    from crossfade.lab.stack import down as stop_lab
    from crossfade.lab.turn import only_one

    lab = this_lab()
    stop_lab(lab, _say)
    for below in lab.folder.glob("*/ports.json"):  # the labs of test runs; one that is at work holds its lock
        with suppress(UserError), only_one(below.parent):
            stop_lab(Lab(below.parent), _say)


@app.command()
def demo(breach: Annotated[bool, typer.Option("--breach", help="Break the target once users are on it.")] = False) -> None:
    """A real migration on this machine, watched from outside; exit code 0 only if it did what it promises."""
    from crossfade.lab.demo import demo as run_demo

    if not run_demo(this_lab(), console, breach=breach):
        raise typer.Exit(1)


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
