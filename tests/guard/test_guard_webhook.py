"""Alerts posted to the guard, on a real router: what trips, what is refused, and that neither stops the poll."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from guard_stand import Stand, eventually, free_port

from crossfade.guard.alerts import Alert
from crossfade.guard.events import events_of
from crossfade.guard.outbox import Notice
from crossfade.home import Home

pytestmark = pytest.mark.slow


def firing(migration: str, severity: str = "page", **more: str) -> dict[str, object]:
    labels = {"alertname": "TooManyErrors", "crossfade_migration": migration, "crossfade_gate": "error_rate", "severity": severity, **more}
    return {"status": "firing", "labels": labels, "annotations": {"summary": "9 of 10 requests fail"}, "endsAt": "0001-01-01T00:00:00Z"}


def webhook(*alerts: object) -> dict[str, object]:
    return {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "guard", "alerts": alerts}


def test_an_alert_trips_the_way_a_breach_does(stand: Stand, home: Home) -> None:
    journal = stand.begin(home, "chat/alerted")
    guard = stand.guard(home)
    stand.route("chat.alerted", 5000)
    with stand.hearing(guard) as client:
        answer = client.post("/alerts", json=webhook(firing("chat/alerted")))
        again = client.post("/alerts", json=webhook(firing("chat/alerted")))
        metrics = client.get("/metrics").text
    assert (answer.status_code, answer.json()["alerts"][0]["did"]) == (200, "tripped"), answer.text
    assert (again.status_code, again.json()["alerts"][0]["did"]) == (200, "nothing")
    assert stand.share("chat.alerted") == 0
    latch = stand.router.latches()["chat.alerted"]
    assert (latch.by, latch.why) == ("guard", "alert error_rate: 9 of 10 requests fail")
    guard.clerk.work_once()
    [entry] = [entry for entry in journal.entries("chat/alerted") if entry.kind == "breach"]
    notice = Notice.model_validate_json(entry.body)
    assert (entry.attempt, notice.seen_by, notice.reason) == (1, "webhook", latch.why)
    assert isinstance(notice.alert, Alert)
    assert notice.alert.labels["alertname"] == "TooManyErrors"
    assert [event.name for event in events_of(notice)] == ["crossfade.sla.breached", "crossfade.rolled-back"]
    assert 'crossfade_guard_trips_total{seen_by="webhook"} 1.0' in metrics
    assert 'crossfade_guard_webhooks_total{status="200"} 2.0' in metrics


def test_prometheus_own_list_trips_as_well(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/listed")
    guard = stand.guard(home)
    stand.route("chat.listed", 100)
    ends = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    alert = {name: value for name, value in firing("chat/listed").items() if name != "status"} | {"endsAt": ends}
    with stand.hearing(guard) as client:
        assert client.post("/api/v2/alerts", json=[alert]).json()["alerts"][0]["did"] == "tripped"
    assert stand.share("chat.listed") == 0


def test_what_is_resolved_mild_or_not_ours_moves_nothing(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/calm")
    guard = stand.guard(home)
    stand.route("chat.calm", 5000)
    strangers = {"status": "firing", "labels": {"alertname": "Watchdog", "severity": "critical"}}
    alerts = [{**firing("chat/calm"), "status": "resolved"}, firing("chat/calm", "info"), firing("chat/calm", "warning"), strangers]
    with stand.hearing(guard) as client:
        answer = client.post("/webhook", json=webhook(*alerts))
    assert (answer.status_code, {one["did"] for one in answer.json()["alerts"]}) == (200, {"nothing"})
    assert stand.share("chat.calm") == 5000
    assert not stand.router.latches()


def test_what_is_wrong_is_refused_with_its_reason_logged_once_and_moves_nothing(
    stand: Stand, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crossfade.guard")
    stand.begin(home, "chat/quiet")
    guard = stand.guard(home)
    stand.route("chat.quiet", 5000)
    as_text = {"content-type": "text/plain"}
    with stand.hearing(guard) as client:
        for _ in range(3):
            assert client.post("/alerts", json={"hello": 1}).status_code == 422
            unknown = client.post("/alerts", json=webhook(firing("chat/nobody")))
            assert (unknown.status_code, unknown.json()["why"]) == (404, "no migration is called 'chat/nobody'")
            assert client.post("/alerts", content=json.dumps(webhook(firing("chat/quiet"))), headers=as_text).status_code == 415
            assert client.post("/alerts", json=["x" * (1 << 20)]).status_code == 413
        assert client.get("/alerts").status_code == 405
        assert client.get("/nowhere").status_code == 404
    assert stand.share("chat.quiet") == 5000
    assert not stand.router.latches()
    refused = [record.message for record in caplog.records if record.message.startswith("webhook_refused")]
    assert len(refused) == 4, refused


def test_an_unknown_name_does_not_keep_its_neighbour_from_tripping(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/neighbour")
    guard = stand.guard(home)
    stand.route("chat.neighbour", 5000)
    with stand.hearing(guard) as client:
        answer = client.post("/alerts", json=webhook(firing("chat/nobody"), firing("chat/neighbour")))
    assert (answer.status_code, [one["did"] for one in answer.json()["alerts"]]) == (404, ["unknown", "tripped"])
    assert stand.share("chat.neighbour") == 0


def test_a_token_is_asked_for_and_shown_nowhere(
    stand: Stand, home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CROSSFADE_GUARD_TOKEN", "wächter-s3cret")
    stand.begin(home, "chat/guarded")
    guard = stand.guard(home)
    stand.route("chat.guarded", 5000)
    body = webhook(firing("chat/guarded"))
    with stand.hearing(guard) as client:
        for wrong in (
            {},
            {"Authorization": "Bearer s3cret"},
            {"Authorization": "Basic wächter-s3cret".encode()},
            {"Authorization": b"Bearer \xff"},
        ):
            refused = client.post("/alerts", json=body, headers=wrong)
            assert (refused.status_code, "token is missing or wrong" in refused.json()["why"]) == (401, True)
        assert stand.share("chat.guarded") == 5000
        assert client.get("/metrics").status_code == 200
        right = client.post("/alerts", json=body, headers={"Authorization": "Bearer wächter-s3cret".encode()})
    assert (right.status_code, stand.share("chat.guarded")) == (200, 0)
    assert "s3cret" not in caplog.text + repr(guard) + right.text


def test_with_no_journal_an_alert_trips_what_has_a_route_and_cannot_judge_other_names(stand: Stand, home: Home) -> None:
    home.root.joinpath("journal.sqlite").mkdir()
    guard = stand.guard(home)
    stand.route("chat.unjournaled", 5000)
    with stand.hearing(guard) as client:
        unsure = client.post("/alerts", json=webhook(firing("chat/elsewhere")))
        assert (unsure.status_code, "journal cannot be asked" in unsure.json()["why"]) == (503, True)
        assert client.post("/alerts", json=webhook(firing("chat/unjournaled"))).status_code == 200
    assert stand.share("chat.unjournaled") == 0
    home.root.joinpath("journal.sqlite").rmdir()
    journal = stand.begin(home, "chat/unjournaled")
    guard.clerk.work_once()
    assert [entry.attempt for entry in journal.entries("chat/unjournaled") if entry.kind == "breach"] == [1]


def test_clients_that_hang_stop_neither_the_poll_nor_other_clients(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/busy")
    guard = stand.guard(home)
    stand.route("chat.busy", 10_000)
    with stand.hearing(guard) as client:
        address = (client.base_url.host, client.base_url.port or 0)
        hanging = [socket.create_connection(address) for _ in range(60)]
        for number, one in enumerate(hanging):
            one.sendall(
                b"POST /alerts HTTP/1.1\r\nhost: x\r\n" + b"content-type: application/json\r\ncontent-length: 99\r\n\r\n[" * (number % 2)
            )
        stand.break_it(error_share=1)

        def once() -> None:
            stand.ask("chat.busy", 3)
            guard.watch_once()

        eventually(lambda: stand.share("chat.busy") == 0, each=once)
        assert client.get("/healthz").status_code == 200
        for one in hanging:
            one.close()


def test_more_connections_than_it_takes_are_hung_up_on(stand: Stand, home: Home) -> None:
    guard = stand.guard(home)
    with stand.hearing(guard) as client:
        address = (client.base_url.host, client.base_url.port or 0)
        many = [socket.create_connection(address, timeout=20) for _ in range(130)]
        dropped = 0
        for one in many[100:]:
            try:
                dropped += one.recv(1) == b""
            except ConnectionResetError:
                dropped += 1
        assert dropped >= 30
        for one in many:
            one.close()
        eventually(lambda: _answers(client))


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/metrics").is_success
    except httpx.TransportError:
        return False


def test_a_guard_that_does_not_look_or_cannot_see_is_not_healthy(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/dark", prometheus=f"http://127.0.0.1:{free_port()}")
    guard = stand.guard(home)
    with stand.hearing(guard) as client:
        assert client.get("/healthz").json()["reasons"] == ["no poll has ended yet"]
        guard.watch_once()
        assert client.get("/healthz").status_code == 200
        stand.route("chat.dark", 10_000)
        guard.watch_once()
        blind = client.get("/healthz")
        assert (blind.status_code, "chat.dark cannot be seen" in blind.json()["reasons"][0]) == (503, True)
        assert "crossfade_guard_blind_routes 1.0" in client.get("/metrics").text
    assert not guard.vitals.health(time.time() + 11).well


def test_a_taken_address_is_said_once_and_heard_on_when_it_comes_free(stand: Stand, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="crossfade.guard")
    with socket.create_server(("127.0.0.1", 0)) as somebody_else:
        guard = stand.guard(home, listen="{}:{}".format(*somebody_else.getsockname()))
        stop = threading.Event()
        thread = threading.Thread(target=guard.ear.run, args=(stop,), daemon=True)
        thread.start()
        eventually(lambda: "cannot_listen" in caplog.text, each=guard.watch_once)
    eventually(lambda: guard.vitals.listens, within_s=30)
    guard.watch_once()
    assert httpx.get(f"http://{guard.vitals.listens}/healthz", trust_env=False).status_code == 200
    stop.set()
    thread.join(20)
    assert [record.message.split()[0] for record in caplog.records].count("cannot_listen") == 1
