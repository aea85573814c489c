"""What people are told, through a notification block on a real Prefect server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.mark.slow
def test_a_notification_block_gets_the_words_and_one_that_is_missing_stops_nobody(prefect: str) -> None:
    from prefect import flow
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from tasks.notify import notify

    heard: list[object] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @flow
    def telling() -> list[str]:
        return notify(["custom-webhook/nobody", "custom-webhook/people", "people"], "a share waits", "chat/m attempt 1: 50% waits")

    try:
        with temporary_settings({PREFECT_API_URL: prefect}):
            words = {"subject": "{{subject}}", "body": "{{body}}"}
            url = f"http://127.0.0.1:{server.server_address[1]}/hook"
            CustomWebhookNotificationBlock(name="people", url=url, json_data=words).save("people")
            assert telling() == ["custom-webhook/people", "people"]
    finally:
        server.shutdown()
    assert heard == [{"subject": "a share waits", "body": "chat/m attempt 1: 50% waits"}] * 2
