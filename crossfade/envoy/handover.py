"""Hot handover: another bootstrap or another Envoy on the same port, without a lost request.

The new process binds the same port beside the old one (SO_REUSEPORT); from then on the kernel gives each new connection to one of
them. Both watch the same route file. Once the new one serves, the old one ends each connection with its next answer, stops
accepting after a few seconds, and is ended when nothing of it is left.

Before the old one stops accepting, the kernel is told to give it no more connections (`steering`): those that waited in its
listener would be reset.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.envoy import crew
from crossfade.envoy.admin import Admin, Traffic
from crossfade.envoy.binary import envoy_binary, validate
from crossfade.envoy.boot import Boot
from crossfade.envoy.bootstrap import render
from crossfade.envoy.crew import Member
from crossfade.envoy.drain import Drained
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.launch import await_live, free_listener, launch, locked_folder
from crossfade.envoy.recovery import settle
from crossfade.envoy.stack import Address, Stack
from crossfade.envoy.steering import Steering
from crossfade.errors import Unreachable, UserError
from crossfade.home import Home
from crossfade.ports import Clock, SystemClock
from crossfade.processes import Program
from crossfade.rollout.routes import RouteTable

_POLL_S = 0.05
_LAST_SCRAPE_S = 2.5
"""What the old process counted last is flushed within a second and scraped within another."""

_UNANSWERED_S = 10.0


@dataclass(frozen=True)
class HandedOver:
    """The process that serves now, the table it was seen to serve, and how the old one ended.

    `drained` says which requests ran on at the deadline and were cut with the old process; `idle_connections` were open without
    a request, and closed.
    """

    program: Program
    boot: Boot
    table: RouteTable
    drained: Drained
    idle_connections: int
    seconds_to_serve: float


def hand_over(stack: Stack, home: Home, *, deadline_s: float = 900.0, idle_s: float = 30.0, clock: Clock | None = None) -> HandedOver:
    """Replace the running router by one for this stack: other engines, limits or metrics, or only a newer Envoy.

    Returns when the old process has ended: when it has no request and no connection left, or only connections that were idle for
    `idle_s`, or at the deadline. If anything is wrong with the new one, the old one goes on alone, as if nothing had been asked.
    Killed half-way it is completed or undone by the next `start` or `hand_over`. Prometheus finds the new process within about
    five seconds; what that one counts before is no evidence, so hand over before a ramp, not during one.
    Raises UserError when no router runs or `listen` is another, and what `start` raises.
    """
    clock = clock or SystemClock()
    envoy_binary()  # before anything is written
    began_s = clock.now_s()
    with locked_folder(stack) as folder:
        old = _running(stack, folder, home)
        new, table = _begin(stack, folder, home, old.boot)
        serves, draining = crew.take_over(old, new, folder, home)
    seconds_to_serve = clock.now_s() - began_s
    steering = Steering(Address.parse(stack.listen), away_from=draining.program.pid, to=serves.program.pid)
    try:
        drained, idle = _drain(draining, folder, steering, deadline_s=deadline_s, idle_s=idle_s, clock=clock)
    finally:
        steering.end()
    with locked_folder(stack) as folder:
        crew.dismiss(draining.program, folder, home)
    return HandedOver(serves.program, serves.boot, table, drained, idle, seconds_to_serve)


def _running(stack: Stack, folder: RouteFolder, home: Home) -> Member:
    old = crew.serving(folder, home)
    if not old:
        raise UserError(f"no router runs in {folder.path} to take over from; start one with 'crossfade up'")
    if old.boot.listen != stack.listen:
        raise UserError(
            f"a handover keeps the address clients use: the router listens on {old.boot.listen}, not {stack.listen}. "
            "To move it, stop it with 'crossfade down' and start it again."
        )
    return old


def _begin(stack: Stack, folder: RouteFolder, home: Home, old: Boot) -> tuple[Member, RouteTable]:
    """The new process, serving beside the old one; or none, and the error."""
    table = settle(folder).table
    asked = [text for text in (stack.metrics_listen, stack.metrics_listen_after_handover) if text and text != old.metrics_listen]
    boot = Boot.of(stack, free_listener(asked, Address.parse(stack.metrics_listen).host))
    bootstrap = render(stack, boot)
    validate(bootstrap, table)
    program = launch(crew.NEXT, boot, bootstrap, folder, home)
    try:
        crew.tidy(folder, home)  # Prometheus should know it before it has much to tell
        return Member(program, boot), await_live(program, folder, boot)
    except BaseException:
        crew.dismiss(program, folder, home)
        raise


def _drain(old: Member, folder: RouteFolder, steering: Steering, *, deadline_s: float, idle_s: float, clock: Clock) -> tuple[Drained, int]:
    """Wait until nothing is left to lose; returns how that ended, and how many connections are open without a request."""
    admin = Admin(old.boot.admin_socket(folder.path))
    began_s = busy_s = answered_s = clock.now_s()
    traffic = Traffic(0, 0, accepting=True)
    while old.program.alive():
        now_s = clock.now_s()
        try:
            admin.drain()
            traffic, answered_s = admin.traffic(), now_s
        except Unreachable:
            if now_s - answered_s > _UNANSWERED_S:
                break
        if traffic.requests or traffic.accepting:
            busy_s = now_s
        if not traffic.accepting:
            steering.end_if_done()
        quiet = busy_s < now_s and (not traffic.connections or now_s - busy_s >= idle_s)
        if quiet or now_s - began_s >= deadline_s:
            break
        clock.sleep(_POLL_S)
    drained = Drained(traffic.requests, clock.now_s() - began_s)
    clock.sleep(_LAST_SCRAPE_S)
    return drained, max(0, traffic.connections - traffic.requests)
