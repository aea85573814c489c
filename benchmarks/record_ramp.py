"""Record a real ramp: `crossfade demo` on this machine, and the router's raw samples of it as a file for `judge.py --replay`.

    python benchmarks/record_ramp.py benchmarks/recordings/good.json.gz
    python benchmarks/record_ramp.py --faults '{"delay_ms": 3000}' benchmarks/recordings/slow_target.json.gz

With faults, the proxy before the target gets them as soon as users are on it. Five minutes, and the lab must not be up.
"""

from __future__ import annotations

import argparse
import gzip
import json
import threading
import time
from pathlib import Path

import httpx
from rich.console import Console

from crossfade import processes
from crossfade.errors import CrossfadeError
from crossfade.lab.demo import MIGRATION, demo
from crossfade.lab.free_ports import choose_free
from crossfade.lab.prometheus import prometheus_binary, start_prometheus
from crossfade.lab.stack import Lab
from crossfade.lab.which import this_lab
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.store import open_journal

_HEALTHY_S = 10.0
"""Time with users on the target before it is broken."""

_STALE_AFTER_S = 10.0  # as the demo's plan says


def main() -> None:
    """Run the demo, then read its samples back."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="where to write; packed if it ends in .gz")
    parser.add_argument("--faults", type=json.loads, help="what the fault proxy is told, as JSON")
    parser.add_argument("--kept", action="store_true", help="record the demo that ran last, instead of running one")
    chosen = parser.parse_args()
    lab = this_lab()
    if not chosen.kept:
        if chosen.faults:
            threading.Thread(target=_break_once_used, args=(lab, chosen.faults), daemon=True).start()
        demo(lab, Console(), breach=False)
    text = _recording(lab)
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    chosen.file.write_bytes(gzip.compress(text.encode(), mtime=0) if chosen.file.suffix == ".gz" else text.encode())
    print(f"{chosen.file}: {chosen.file.stat().st_size:,} bytes, {len(text):,} unpacked")


def _break_once_used(lab: Lab, faults: dict[str, float]) -> None:
    """Wait until the ramp has put users on the target for a while, then break it."""
    began_s = time.time()  # a journal from the run before is still there for a moment
    while True:
        time.sleep(0.5)
        try:
            state = open_journal(lab.home).state(MIGRATION)
        except CrossfadeError:
            continue
        if state.phase is Phase.RAMPING and began_s < state.share_since_s < time.time() - _HEALTHY_S:
            break
    httpx.post(f"http://127.0.0.1:{lab.ports.fault_control}/faults", json=faults, timeout=5).raise_for_status()
    print(f"the fault proxy now breaks the target: {faults}")


def _recording(lab: Lab) -> str:
    """From the source's baseline to the ramp's end, by a Prometheus that reads what the demo's left behind and scrapes nothing."""
    entries = open_journal(lab.home).entries(MIGRATION)
    since_s = next(entry.at_s for entry in entries if (entry.kind, entry.subject) == ("phase", str(Phase.OBSERVING)))
    (port,) = choose_free(1)
    binary, records = prometheus_binary(lab.folder, print), lab.folder / "recorder"
    url = start_prometheus(binary, lab=lab.folder, port=port, targets=(), records=records, logs=lab.home.logs)
    try:
        metrics = PrometheusMetrics(url, timeout_s=60, stale_after_s=_STALE_AFTER_S)
        return metrics.record(route_name(MIGRATION), since_s=since_s, until_s=entries[-1].at_s)
    finally:
        processes.stop_all(records, deadline_s=5)


if __name__ == "__main__":
    main()
