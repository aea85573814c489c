"""How near a download comes to what the line gives, hashing included, and how much memory it takes.

    python benchmarks/download.py [--megabytes 2000] [--cap 100] [--json FILE]

A hub on this machine sends one safetensors file no faster than the cap. The same file is fetched without a cap, to show what the
machine itself can do; again, to show that nothing is; and once more with a SIGKILL half-way, to count what is fetched twice.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import huggingface_hub
from rows import Row, machine, report

REPO = "crossfade/large"
MB = 10**6

CHILD = """
import json, resource, sys, time
from pathlib import Path
from crossfade.hub.access import Access
from crossfade.hub.download import fetch
began = time.monotonic()
fetch(sys.argv[3], sys.argv[4], Path(sys.argv[2]), lambda _: None, access=Access(sys.argv[1]))
seconds = time.monotonic() - began
print(json.dumps({"seconds": seconds, "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the file")
    parser.add_argument("--cap", type=int, default=100, metavar="MB/S", help="speed of the line")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    measured_on = machine(huggingface_hub=huggingface_hub.__version__, megabytes=str(chosen.megabytes), cap_mb_per_s=str(chosen.cap))
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        root = Path(folder)
        total = make_model(root / "model", chosen.megabytes * MB)
        rows = measure(root, total, chosen.cap)
    report("downloading weights", measured_on, rows, chosen.json)


def measure(root: Path, total: int, cap: int) -> list[Row]:
    """All rows."""
    with hub(root / "model", cap * MB) as address:
        capped = fetched(address, root / "capped")
        before = sent(address)
        again = fetched(address, root / "capped")
        again_bytes = sent(address) - before
    with hub(root / "model", cap * MB) as address:
        twice = refetched_after_a_kill(address, root / "killed", total)
    with hub(root / "model", 0) as address:
        free = fetched(address, root / "free")
    line_s = total / (cap * MB)
    return [
        Row("download_vs_line", capped["seconds"] / line_s, "times", "<= 1.25"),
        Row("download_s", capped["seconds"], "s"),
        Row("line_s", line_s, "s"),
        Row("download_peak_rss_mib", capped["rss_mib"], "MiB", "<= 300"),
        Row("uncapped_mb_per_s", total / MB / free["seconds"], "MB/s"),
        Row("again_s", again["seconds"], "s"),
        Row("again_files_asked", again_bytes, "requests", "0"),
        Row("refetched_after_kill_mb", twice / MB, "MB"),
    ]


def make_model(folder: Path, total: int) -> int:
    """One tensor of about `total` bytes, and a configuration; the bytes of everything that will be fetched."""
    folder.mkdir()
    header = json.dumps({"weight": {"dtype": "U8", "shape": [total], "data_offsets": [0, total]}}).encode()
    block = os.urandom(MB)
    with (folder / "model.safetensors").open("wb") as output:
        output.write(struct.pack("<Q", len(header)) + header)
        for _ in range(total // MB):
            output.write(block)
    (folder / "config.json").write_text("{}")
    return sum(path.stat().st_size for path in folder.iterdir())


@contextmanager
def hub(folder: Path, bytes_per_s: int) -> Iterator[str]:
    """A hub in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "crossfade.lab.hub_server",
        "--repo",
        f"{REPO}={folder}",
        "--fault",
        f"{REPO}:bytes_per_s={bytes_per_s}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def fetched(address: str, store: Path, revision: str = "main") -> dict[str, float]:
    """Seconds and memory of one download in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CHILD, address, str(store), REPO, revision], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def sent(address: str) -> int:
    """How many files were asked for so far."""
    return sum(each["method"] == "GET" and "/resolve/" in each["path"] for each in requests(address))


def requests(address: str) -> list[dict[str, str]]:
    """The hub's record."""
    return httpx.get(f"{address}/_lab/requests", trust_env=False).json()


def refetched_after_a_kill(address: str, store: Path, total: int) -> int:
    """Bytes asked for a second time after a SIGKILL at about half."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, address, str(store), REPO, "main"], stdout=subprocess.DEVNULL)
    part = next_part(child, store, total // 2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    arrived_before = part.stat().st_size
    fetched(address, store)
    ranges = [each["range"] for each in requests(address) if each["method"] == "GET" and each["path"].endswith("model.safetensors")]
    began_again = int(ranges[-1].removeprefix("bytes=").partition("-")[0] or 0) if len(ranges) > 1 else 0
    return arrived_before - began_again


def next_part(child: subprocess.Popen[bytes], store: Path, size: int) -> Path:
    """The growing part file, once it has reached `size`."""
    while child.poll() is None:
        for part in store.rglob("*.safetensors.part"):
            if part.stat().st_size >= size:
                return part
        time.sleep(0.05)
    raise SystemExit("the download ended before it could be killed; choose more megabytes or a lower cap")


if __name__ == "__main__":
    main()
