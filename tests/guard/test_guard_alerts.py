"""What counts as an alert, and when one fires."""

from __future__ import annotations

import json

import pytest

from crossfade.errors import UserError
from crossfade.guard.alerts import Alert, parse_alerts

TS0 = 1_700_000_000.0  # 2023-11-14T22:13:20Z
LABELS = {"alertname": "Errors", "crossfade_migration": "chat/lab", "crossfade_gate": "error_rate", "severity": "page"}


def webhook(*alerts: object, version: str = "4") -> bytes:
    return json.dumps({"version": version, "groupKey": "{}", "status": "firing", "receiver": "guard", "alerts": alerts}).encode()


def test_both_forms_say_the_same() -> None:
    alert = {"labels": LABELS, "annotations": {"summary": "too many\nerrors", "description": "9 of 10"}, "startsAt": "2023-11-14T22:00:00Z"}
    [from_alertmanager] = parse_alerts(webhook({**alert, "status": "firing", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "ab"}))
    [from_prometheus] = parse_alerts(json.dumps([{**alert, "endsAt": "2023-11-14T22:17:20Z", "generatorURL": ""}]).encode())
    for found in (from_alertmanager, from_prometheus):
        assert (found.migration, found.gate, found.grave, found.firing(TS0)) == ("chat/lab", "error_rate", True, True)
        assert found.reason == "alert error_rate: too many errors: 9 of 10"


@pytest.mark.parametrize(
    ("more", "firing"),
    [
        ({"status": "resolved"}, False),
        ({"status": "firing", "endsAt": "2001-01-01T00:00:00Z"}, True),
        ({"endsAt": "2023-11-14T22:13:19Z"}, False),
        ({"endsAt": "2023-11-14T22:13:21Z"}, True),
        ({"endsAt": "0001-01-01T00:00:00Z"}, True),
        ({}, True),
    ],
)
def test_an_alert_that_is_over_does_not_fire(more: dict[str, str], firing: bool) -> None:
    [alert] = parse_alerts(json.dumps([{"labels": LABELS, **more}]).encode())
    assert alert.firing(TS0) is firing


@pytest.mark.parametrize(("severity", "grave"), [("page", True), ("Critical", True), ("warning", False), ("info", False), ("", False)])
def test_only_what_would_wake_somebody_is_grave(severity: str, grave: bool) -> None:
    assert Alert(labels={"severity": severity}).grave is grave


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{}",
        b"[]",
        b"null",
        b'{"alerts": []}',
        webhook(),
        webhook({"labels": LABELS}, version="3"),
        b'[{"annotations": {}}]',
        b'[{"labels": {"a": {"b": 1}}}]',
        b'[{"labels": {}, "endsAt": "yesterday"}]',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_alert_is_refused_with_what_to_send(body: bytes) -> None:
    with pytest.raises(UserError, match=r"this is no alert: .*Send Alertmanager's webhook"):
        parse_alerts(body)


def test_a_reason_is_one_line_of_bounded_length() -> None:
    reason = Alert(labels={}, annotations={"summary": "x\r\n" * 5000}).reason
    assert "\n" not in reason
    assert len(reason) <= 500
