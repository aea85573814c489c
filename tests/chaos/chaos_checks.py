"""What a test prepares before a tick dies, and what must be so afterwards."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from chaos_stand import STEPS_BP, Case, Stand

from crossfade.ramp.logbook import Desk, Ruling, ShareMove
from crossfade.ramp.rejudge import rejudge
from crossfade.rollout.routes import FULL_BP
from crossfade.store.chain import Whole


def prepare(desk: Desk, about: str, case: Case) -> None:
    """What a tick finds when somebody died before it, or wrote past the journal."""
    if about not in ("settle", "lower"):
        return
    table = desk.router.table()
    raised = table.route(case.route).model_copy(update={"share_bp": STEPS_BP[1]})
    if about == "settle":
        meant = ShareMove(route=raised, generation=table.generation, why="proven", step=1)
        desk.move(desk.journal.state(case.migration), "intent", "share", meant)
    desk.router.apply(raised, expect=table.generation)


def agree(stand: Stand, case: Case) -> int:
    """The target's share, the same in route file, dump and journal; both engines' shares sum to 10000."""
    written, dumped = stand.weights(case)
    assert sum(written) == FULL_BP
    assert dumped == written
    assert stand.journal.state(case.migration).share_bp == written[0]
    return written[0]


def nothing_is_lost_or_doubled(stand: Stand, case: Case) -> None:
    """Entries form an unbroken chain, each decision follows from its evidence, no evidence was judged twice, no move was made twice."""
    entries = stand.journal.entries(case.migration)
    assert isinstance(stand.journal.check(case.migration), Whole)
    assert rejudge(entries) == []
    judged = [Ruling.model_validate_json(entry.body).evidence for entry in entries if entry.kind == "decision"]
    counted = [interval for evidence in judged for interval in evidence.intervals]
    assert all(before.end_s <= after.start_s + 0.01 for before, after in pairwise(counted))
    done = Counter((entry.kind, entry.subject) for entry in entries if entry.kind in ("phase", "outcome") and entry.subject != "soak")
    assert not [what for what, times in done.items() if times > 1 and what != ("outcome", "share")]
    shares = [ShareMove.model_validate_json(entry.body) for entry in entries if (entry.kind, entry.subject) == ("outcome", "share")]
    assert len({move.step for move in shares}) == len(shares)
