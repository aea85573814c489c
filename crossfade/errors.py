"""Every error Crossfade raises on purpose.

    CrossfadeError
    |- PermanentError          trying again will not help; a person must change something
    |  |- UserError            the user's mistake: exit code 2
    |  |  |- PlanInvalid       the plan file does not say what it must
    |  |  |- AnotherRouter     a router with other addresses serves this home
    |  |  `- UnknownMigration  no such name in the journal
    |  |- IllegalMove          a migration was asked to skip or repeat a phase
    |  |- Tripped              the route is latched after a breach; a person must resume it
    |  |- StaleWriter          somebody else moved the route or the journal first
    |  |- Superseded          the attempt a run drives is over; another one may be under way
    |  |- GateFailed           a gate says the migration must not go on
    |  |- WeightsInvalid       weights are missing, broken, unsafe or gated
    |  |- NotEnoughRoom        disk or memory is too small for what the plan asks
    |  |- QuantizeFailed       the quantizer ran and did not produce usable weights
    |  |  `- QuantizeOverdue   it was stopped, because it took longer than it may
    |  |- EngineDied           a serving engine ended instead of becoming ready
    |  |- ParityFailed         the two engines disagree more than the plan allows
    |  |- RouteRejected        the router refused a route table; the old one is still in force
    |  `- ToolMissing          a program this machine needs is not installed
    `- TemporaryError          trying again later may help
       |- NotInForce           the route file is right, and the router does not route by it yet
       |- NotWrittenDown       the source has everything; the journal could not be told
       |- EngineWarming        an engine is there but does not answer yet
       |- StartAgain           an engine ended while it started, for a cause that passes by itself
       `- Unreachable          an outside system did not answer in time

The class alone decides whether a task retries (`tasks.quiet`), and which exit code the command line returns: 2 for
`UserError`, 1 for the others. Each message says what happened, where, and what to do next.
"""

from __future__ import annotations


class CrossfadeError(Exception):
    """Root of the tree; `str(error)` is meant to be read by a user."""

    exit_code = 1


class PermanentError(CrossfadeError):
    """Trying the same thing again cannot succeed."""


class TemporaryError(CrossfadeError):
    """Trying again later may succeed.

    `delay_s` is how many seconds the raiser would wait, for instance because a server asked for it. A migration's stages wait that
    long (`tasks.stage`); other tasks retry at their own fixed intervals (`tasks.quiet`).
    """

    def __init__(self, message: str, *, delay_s: float = 2.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class UserError(PermanentError):
    """Something the user wrote or typed is wrong; nothing has been changed."""

    exit_code = 2


class PlanInvalid(UserError):
    """The plan cannot be carried out as written; the message names file and line."""


class UnknownMigration(UserError):
    """The journal knows no migration of that name."""


class AnotherRouter(UserError):
    """A router with other addresses serves this home; a hot handover could replace it."""


class IllegalMove(PermanentError):
    """A migration was asked to move to a phase that may not follow the one it is in."""


class Tripped(PermanentError):
    """The route carries a latch; its share cannot rise until a person resumes it."""


class StaleWriter(PermanentError):
    """The generation or version the caller read is no longer the newest."""


class Superseded(PermanentError):
    """The attempt this run drives has ended or been followed by another; nothing more may be done for it."""


class GateFailed(PermanentError):
    """A gate found evidence against going on, or a boundary was not allowed to be crossed."""


class WeightsInvalid(PermanentError):
    """Weights are missing, broken, unsafe or behind a licence."""


class NotEnoughRoom(PermanentError):
    """Disk or memory is too small for what the plan asks."""


class QuantizeFailed(PermanentError):
    """The quantizer ended without usable weights; the log's tail is in the message."""


class QuantizeOverdue(QuantizeFailed):
    """The quantizer, or the engine that compares its weights, was stopped at its deadline."""


class EngineDied(PermanentError):
    """A serving engine ended instead of becoming ready; the message carries the diagnosis."""


class ParityFailed(PermanentError):
    """The two engines disagree more than the plan allows."""


class RouteRejected(PermanentError):
    """The router refused a table; the message quotes its reason and the old table is still in force."""


class ToolMissing(PermanentError):
    """A program is not installed; the message says how to get it."""


class NotInForce(TemporaryError):
    """The route file says what it should, and the router, which answers, does not route by it yet."""


class NotWrittenDown(TemporaryError):
    """A rollback is in force and latched, and the journal could not be told; the next tick or reconcile tells it."""


class EngineWarming(TemporaryError):
    """An engine is there but does not answer requests yet."""


class StartAgain(TemporaryError):
    """An engine ended while it started, for a cause that may be gone the next time; the message carries the diagnosis."""


class Unreachable(TemporaryError):
    """An outside system did not answer in time."""
