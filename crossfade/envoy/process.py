"""Start the router, or take over one that already runs for the same stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from crossfade.envoy import crew
from crossfade.envoy.binary import envoy_binary, validate
from crossfade.envoy.boot import Boot
from crossfade.envoy.bootstrap import render
from crossfade.envoy.crew import NAME, Member
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.handover import HandedOver, hand_over
from crossfade.envoy.launch import await_free, await_live, free_listener, launch, locked_folder, refuse_taken
from crossfade.envoy.recovery import Settled, settle
from crossfade.envoy.stack import Address, Stack
from crossfade.errors import AnotherRouter
from crossfade.home import Home
from crossfade.processes import Program

__all__ = ["NAME", "HandedOver", "Running", "hand_over", "start"]


@dataclass(frozen=True)
class Running(Program):
    """The process of the router that serves, and what had to be done to its route file before it could."""

    boot: Boot
    settled: Settled


def start(stack: Stack, home: Home, *, intents: Mapping[str, int] | None = None) -> Running:
    """The running, verified router of this stack: started now, or adopted when it already runs.

    The route file decides the shares, so a restart after a crash serves the same. Envoy is never started on a broken one: the
    newest good generation is restored, with every tripped route and every one whose newer intent was lower at 0, and the
    result's `settled` says so. `intents` are the newest shares by route, in basis points, that the caller has on record.
    Raises UserError when a port is taken or another stack's router runs, ToolMissing, RouteRejected when Envoy refuses the
    configuration, PermanentError when it ends at once, Unreachable when it never serves.
    """
    envoy_binary()  # before anything is written
    with locked_folder(stack) as folder:
        running = crew.serving(folder, home)
        if running:
            return _adopt(running, stack, folder, intents)
        return _start(stack, folder, home, intents)


def _start(stack: Stack, folder: RouteFolder, home: Home, intents: Mapping[str, int] | None) -> Running:
    boot = Boot.of(stack, _metrics_listener(stack, home))
    settled = settle(folder, intents)
    bootstrap = render(stack, boot)
    validate(bootstrap, settled.table)  # after a start with a table it refuses Envoy would answer 404 to everything
    program = launch(NAME, boot, bootstrap, folder, home)
    try:
        folder.switch(boot)
        crew.tidy(folder, home)
        await_live(program, folder, boot)
    except BaseException:
        crew.dismiss(program, folder, home)
        raise
    return Running(**asdict(program), boot=boot, settled=settled)


def _metrics_listener(stack: Stack, home: Home) -> str:
    """Where to show metrics, once both ports are ours to take."""
    if not crew.draining(home):
        refuse_taken(Address.parse(stack.listen))
        refuse_taken(Address.parse(stack.metrics_listen))
        return stack.metrics_listen
    # the process that serves was killed, and one it had replaced still finishes its streams: it gives up the clients' port soon
    await_free(Address.parse(stack.listen))
    asked = [text for text in (stack.metrics_listen, stack.metrics_listen_after_handover) if text]
    return free_listener(asked, Address.parse(stack.metrics_listen).host)


def _adopt(running: Member, stack: Stack, folder: RouteFolder, intents: Mapping[str, int] | None) -> Running:
    program, boot = running.program, running.boot
    if not boot.belongs_to(stack) or folder.bootstrap_file.read_text() != render(stack, boot):
        raise AnotherRouter(
            f"a router with other addresses already runs (pid {program.pid}, {folder.bootstrap_file}); "
            "stop it with 'crossfade down' before starting this one, or hand over to this one"
        )
    settled = settle(folder, intents)
    await_live(program, folder, boot)
    return Running(**asdict(program), boot=boot, settled=settled)
