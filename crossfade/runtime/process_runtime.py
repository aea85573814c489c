"""A serving engine as a process of this machine: started once, found again after our restart, stopped with a deadline.

Knows nothing of vLLM: the command line, the question that proves it answers and the reading of its log are handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from crossfade import processes
from crossfade.errors import EngineDied, PermanentError, TemporaryError
from crossfade.home import Home
from crossfade.logs import cut_from
from crossfade.ports import Clock
from crossfade.processes import Program
from crossfade.runtime.launch import Diagnose, Difference, EndedAtStart, Launch, Origin, Probe, RunningTarget
from crossfade.runtime.ports_in_use import require_free

POLL_S = 0.5
SPEAK_EVERY_S = 2.0
LOGS_KEPT = 3
TAIL_LINES = 400
"""vLLM's traceback of one failure, printed by three processes, is up to 300 lines long."""


class ProcessRuntime:
    """Targets as processes, their records and logs under `home`."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def start_target(
        self, name: str, launch: Launch, *, on_difference: Difference = Difference.REFUSE, drain_s: float = 30.0
    ) -> RunningTarget:
        """The running target of that name: adopted when the very same launch already runs, else started.

        Idempotent. One that is replaced has `drain_s` to finish its answers. Raises UserError when somebody
        else holds the port, PermanentError when a target of that name runs with another command line and `on_difference` is REFUSE.
        """
        log = self.home.logs / f"{name}.log"
        running = processes.find(name, self.home.processes) or self._without_record(name, log)
        if running and self._fingerprint(name) == launch.fingerprint:
            return _target(name, launch, running, Origin.ADOPTED)
        if running and on_difference is Difference.REFUSE:
            raise PermanentError(
                f"{name} already runs as process {running.pid} with another command line and may be serving. "
                "Stop it before starting it differently."
            )
        # a dead server may have left its engine, which holds the GPU's memory
        if standing := running or processes.recorded(name, self.home.processes):
            processes.stop(standing, deadline_s=drain_s)
        require_free(launch.port, purpose=name)
        _rotate(log)
        # Before the program: if we are killed right after its start, it is found by its log, and the mark says what it is.
        self._write_fingerprint(name, launch.fingerprint)
        program = processes.start(name, launch.command, records=self.home.processes, log=log, env=launch.env)
        return _target(name, launch, program, Origin.STARTED)

    def _without_record(self, name: str, log: Path) -> Program | None:
        """What we started and were killed before we wrote it down; now it is."""
        found = processes.unrecorded(name, log)
        if found:
            processes.record(found, self.home.processes)
        return found

    def find_target(self, name: str, launch: Launch) -> RunningTarget | None:
        """The target if it runs with exactly this launch, else None."""
        running = processes.find(name, self.home.processes)
        same = running is not None and self._fingerprint(name) == launch.fingerprint
        return _target(name, launch, running, Origin.ADOPTED) if running and same else None

    def wait_ready(
        self,
        target: RunningTarget,
        *,
        probe: Probe,
        diagnose: Diagnose,
        clock: Clock,
        deadline_s: float,
        on_progress: Callable[[str], None],
    ) -> float:
        """Seconds until `probe` was answered. Ready means it did real work: health pages answer before and after that (H8).

        Raises EndedAtStart with the diagnosis as soon as the process has ended, EngineDied when `deadline_s` passed; the process
        is then left as it is, to be looked at or stopped. A PermanentError of the probe passes through.
        """
        began_s = clock.now_s()
        spoke_s = began_s
        while True:
            if not target.program.alive():
                raise _obituary(target, diagnose)
            waited_s = clock.now_s() - began_s
            try:
                probe()
            except PermanentError:
                if target.program.alive():
                    raise
                continue  # it failed the question because it was dying; the log knows why
            except TemporaryError as error:
                if waited_s > deadline_s:
                    raise EngineDied(_overdue(target, waited_s, error)) from None
            else:
                return waited_s
            if waited_s - (spoke_s - began_s) >= SPEAK_EVERY_S:
                spoke_s = began_s + waited_s
                on_progress(f"{target.name}: {waited_s:.0f} s, {_last_words(target.program)}")
            clock.sleep(POLL_S)

    def stop_target(self, name: str, *, deadline_s: float) -> None:
        """End the target and all its children, also those of one that has died: asked first, killed after `deadline_s`."""
        if known := processes.recorded(name, self.home.processes):
            processes.stop(known, deadline_s=deadline_s)
        (self.home.processes / f"{name}.json").unlink(missing_ok=True)
        self._mark(name).unlink(missing_ok=True)

    def _mark(self, name: str) -> Path:
        return self.home.processes / f"{name}.launch"

    def _fingerprint(self, name: str) -> str:
        try:
            return self._mark(name).read_text().strip()
        except OSError:
            return ""

    def _write_fingerprint(self, name: str, fingerprint: str) -> None:
        self.home.processes.mkdir(parents=True, exist_ok=True)
        temporary = self._mark(name).with_suffix(".tmp")
        temporary.write_text(fingerprint + "\n")
        temporary.replace(self._mark(name))


def _target(name: str, launch: Launch, program: Program, origin: Origin) -> RunningTarget:
    return RunningTarget(name, f"http://127.0.0.1:{launch.port}", program, origin)


def _obituary(target: RunningTarget, diagnose: Diagnose) -> EndedAtStart:
    """Whatever the process left is in the log by now; what it started may still hold the port, so it goes too."""
    exit_code = _exit_code(target.program)
    finding = diagnose(target.program.log_tail(TAIL_LINES), exit_code)
    processes.stop(target.program, deadline_s=5)
    said = f"{target.name} ended instead of becoming ready: {finding.summary} ({finding.detail}). {finding.resolution}"
    return EndedAtStart(f"{said} Its log: {target.program.log}", finding)


def _overdue(target: RunningTarget, waited_s: float, error: TemporaryError) -> str:
    return (
        f"{target.name} runs but did not answer within {waited_s:.0f} s: {error} Last line of its log: {_last_words(target.program)} "
        f"Raise target.runtime.start_within if it is still loading. Its log: {target.program.log}"
    )


def _exit_code(program: Program) -> int | None:
    """Known only where this process started it."""
    try:
        return psutil.Process(program.pid).wait(timeout=0)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        return None


def _last_words(program: Program) -> str:
    lines = [line for line in program.log_tail(5).splitlines() if line.strip()]
    return lines[-1].strip()[:140] if lines else "nothing in its log yet"


def _rotate(log: Path) -> None:
    """Each start has a log of its own, so that no diagnosis reads the failure before; the last `LOGS_KEPT` are kept."""
    older = [log, *(log.with_suffix(f".{number}.log") for number in range(1, LOGS_KEPT + 1))]
    for newer, place in zip(reversed(older[:-1]), reversed(older[1:]), strict=True):
        if newer.exists():
            newer.replace(place)
    cut_from(log).unlink(missing_ok=True)
