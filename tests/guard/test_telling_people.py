"""What people are told, through a notification block on a real Prefect server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crossfade.home import Home
from crossfade.ports import Entry
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

pytestmark = pytest.mark.slow

PLAN = """
name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: lab, huggingface: a/b}]
notify: [custom-webhook/people]
"""


@pytest.fixture
def heard(prefect: str) -> Iterator[list[dict[str, str]]]:
    """What was said to a block called `people`; flows of this process run on the server."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.settings import PREFECT_API_URL, temporary_settings

    told: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with temporary_settings({PREFECT_API_URL: prefect}):
            words = {"subject": "{{subject}}", "body": "{{body}}"}
            url = f"http://127.0.0.1:{server.server_address[1]}/hook"
            CustomWebhookNotificationBlock(name="people", url=url, json_data=words).save("people", overwrite=True)
            yield told
    finally:
        server.shutdown()


def test_a_notification_block_gets_the_words_and_one_that_is_missing_stops_nobody(heard: list[dict[str, str]]) -> None:
    from prefect import flow

    from tasks.notify import notify

    @flow
    def telling() -> list[str]:
        return notify(["custom-webhook/nobody", "custom-webhook/people", "people"], "a share waits", "chat/m attempt 1: 50% waits")

    assert telling() == ["custom-webhook/people", "people"]
    assert heard == [{"subject": "a share waits", "body": "chat/m attempt 1: 50% waits"}] * 2


def test_a_rollback_run_that_cannot_bring_the_users_back_calls_for_help(
    heard: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker on a machine that shares the journal and has no router."""
    from flows.rollback import rollback

    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path))
    journal = SqlJournal(Home(tmp_path).journal)
    begun = journal.begin(MigrationState(name="chat/lab", plan_digest="d", phase_since_s=1.0, share_since_s=1.0), PLAN)
    placed = begun.model_copy(update={"phase": Phase.RAMPING, "share_bp": 5000})
    before = journal.move(placed, Entry("chat/lab", 1, 1.0, "note", "placed by a test", '{"why": "test"}'))
    ended = rollback("chat/lab", why="a breach", return_state=True)
    assert ended.is_failed()
    assert "this is not the router's host" in (ended.message or "")
    [told] = heard
    assert told["subject"] == "Crossfade could not complete the rollback of chat/lab"
    assert told["body"].startswith("Users may still be on the target: no router ever had a route ")
    assert "'crossfade rollback chat/lab' on the router's host" in told["body"]
    assert journal.state("chat/lab") == before
