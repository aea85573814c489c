"""What the journal's tests write into it."""

from crossfade.ports import Entry
from crossfade.rollout.state import MigrationState

TS0 = 1_000.0  # when the migration began
TS1 = 1_060.0  # one minute later


def planned(name: str = "chat/lab") -> MigrationState:
    return MigrationState(name=name, plan_digest="d1", phase_since_s=TS0, share_since_s=TS0)


def note(at_s: float = TS1, body: str = "{}") -> Entry:
    return Entry("chat/lab", 1, at_s, "note", "test", body)
