"""`crossfade ramp ...`: a person's orders to a ramp, and how long it will take."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from crossfade.errors import UserError
from crossfade.lab.which import use_lab_if_it_is_up
from crossfade.plan.units import parse_seconds

ramp_app = typer.Typer(no_args_is_help=True, help="Steer a ramp: every order is journaled with who gave it and why.")
console = Console()

Name = Annotated[str, typer.Argument(help="plan/model, as 'crossfade status' lists it.", metavar="NAME")]
Why = Annotated[str, typer.Option(help="Goes into the journal.")]
_UNSAID = "asked for on the command line"

_ORDERS = {
    "pause": "Nothing rises until `resume`; judge and guard go on and roll back.",
    "resume": "Go on after a pause.",
    "skip": "Go to the next step without waiting for its proof; never past a roll-back, a latch or a missing approval.",
    "back": "One step down, now.",
    "approve": "Allow the share that waits for a person's word.",
    "reject": "Refuse the share that waits for a person's word; the ramp is paused.",
}


def _as_command(order: str) -> Callable[[str, str], None]:
    def command(name: Name, why: Why = _UNSAID) -> None:
        from crossfade.ramp import orders  # what a command needs is imported when it runs, so that --help is quick
        from crossfade.wiring import open_bench

        use_lab_if_it_is_up()
        give: Callable[..., str] = getattr(orders, order)
        _say(give(open_bench(name).desk, name, by=_who(), why=why))

    return command


for _order, _help in _ORDERS.items():
    ramp_app.command(_order, help=_help)(_as_command(_order))


@ramp_app.command()
def abort(name: Name, why: Why = _UNSAID) -> None:
    """Everybody back to the source, latched. It ends this attempt."""
    from crossfade.commands import roll_back_now
    from crossfade.ramp.orders import nothing_to_abort

    use_lab_if_it_is_up()
    roll_back_now(console, name, why, by=_who(), refuse=nothing_to_abort)


@ramp_app.command()
def hold(name: Name, time: Annotated[str, typer.Option("--for", help="How much longer, like 30m.")] = "1h", why: Why = _UNSAID) -> None:
    """Stay at this step for so much longer, then go on by itself."""
    from crossfade.ramp import orders
    from crossfade.wiring import open_bench

    use_lab_if_it_is_up()
    try:
        for_s = parse_seconds(time)
    except ValueError as error:
        raise UserError(f"--for {time}: {error}") from None
    _say(orders.hold(open_bench(name).desk, name, by=_who(), why=why, for_s=for_s))


@ramp_app.command()
def estimate(
    plan: Annotated[str, typer.Argument(help="The plan's YAML file.", metavar="PLAN")],
    rps: Annotated[float, typer.Option(help="Requests a second; 0: what Prometheus has seen of this model in the last hour.")] = 0.0,
) -> None:
    """Predict requests and time of each step, and what would help where it takes too long."""
    from crossfade.foresight import print_estimate

    use_lab_if_it_is_up()
    print_estimate(plan, rps, console)


def _who() -> str:
    return f"{getpass.getuser()} on the command line"


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
