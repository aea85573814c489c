"""Prometheus for one machine: found or fetched without root, started on loopback, asked whether it really scrapes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import yaml

from crossfade import processes
from crossfade.errors import PermanentError, ToolMissing, Unreachable

Say = Callable[[str], None]

_WAYS = (
    "Ways to get it: install the package 'prometheus' of your distribution, or unpack a release from prometheus.io "
    "and put its folder on PATH; then run the same command again."
)

_APT_CONF = """\
Dir::State "{state}";
Dir::State::lists "{state}/lists";
Dir::Cache "{cache}";
Dir::Log "{state}/log";
Debug::NoLocking "true";
APT::Sandbox::User "{user}";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"""
"""Read after the machine's own configuration: its proxies and sources stay, its hooks, which would write outside the lab, do not."""


@dataclass(frozen=True)
class ScrapeTarget:
    """One endpoint to read every second. `address` is host:port; the job becomes the label `job` of all its series.

    Or a file that lists endpoints as they come and go, as the router writes one: then `address` is its absolute path.
    """

    job: Literal["crossfade-router", "vllm"]
    address: str
    path: str = "/metrics"


def found_prometheus(lab: Path) -> tuple[Path, ...]:
    """Programs already on this machine, the one that would be used first: PATH, then the lab's own."""
    on_path = shutil.which("prometheus")
    places = (Path(on_path),) if on_path else ()
    unpacked = _unpacked(lab)
    return (*places, unpacked) if unpacked.exists() else places


def prometheus_binary(lab: Path, say: Say) -> Path:
    """A Prometheus to run: from PATH, else unpacked under `lab`, else fetched there from the machine's Debian sources.

    Needs no root and leaves the system's apt state alone. Raises ToolMissing naming the other ways.
    """
    found = found_prometheus(lab)
    if found:
        return found[0]
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ToolMissing(f"Prometheus is not on PATH, and without apt-get it cannot be fetched here. {_WAYS}")
    lab.mkdir(parents=True, exist_ok=True)
    with (lab / "prometheus.lock").open("a") as one_at_a_time, tempfile.TemporaryDirectory(prefix="prometheus.", dir=lab) as partial:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if _unpacked(lab).exists():  # somebody else fetched it while we waited
            return _unpacked(lab)
        package = _download(lab, Path(partial), say)
        tree = Path(partial) / "tree"
        _run(["dpkg-deb", "-x", str(package), str(tree)], cwd=Path(partial))
        shutil.rmtree(lab / "prometheus", ignore_errors=True)
        tree.rename(lab / "prometheus")
    say(f"prometheus: unpacked into {lab / 'prometheus'}")
    return _unpacked(lab)


def _unpacked(lab: Path) -> Path:
    return lab / "prometheus" / "usr" / "bin" / "prometheus"


def _download(lab: Path, into: Path, say: Say) -> Path:
    """Fetch the package with package lists of our own; fresh lists only when the ones we have do not lead to it."""
    apt = lab / "apt"
    for folder in ("state/lists/partial", "state/log", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    user = "root" if os.geteuid() == 0 else "_apt"
    conf = into / "apt.conf"
    conf.write_text(_APT_CONF.format(state=apt / "state", cache=apt / "cache", user=user))
    download = ["apt-get", "-q", f"--config-file={conf}", "download", "prometheus"]
    say("prometheus: fetching the Debian package (about 20 MB, seconds on a fast line)")
    if _run(download, cwd=into, must=False):
        say("prometheus: fetching package lists first (about 10 MB, into the lab only)")
        # One unreachable source of many fails the update although the lists that matter have come; the download decides.
        _run(["apt-get", "-q", f"--config-file={conf}", "update"], cwd=into, must=False)
        _run(download, cwd=into)
    packages = list(into.glob("prometheus_*.deb"))
    if not packages:
        raise ToolMissing(f"apt-get downloaded no Prometheus package. {_WAYS}")
    return packages[0]


def _run(command: list[str], *, cwd: Path, must: bool = True) -> int:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if must and done.returncode:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-6:])
        raise ToolMissing(f"Prometheus is not on PATH and fetching it failed. {command[0]} said:\n{tail}\n{_WAYS}")
    return done.returncode


def write_config(path: Path, targets: Iterable[ScrapeTarget]) -> Path:
    """Write a configuration that scrapes every target once a second; returns `path`."""
    jobs: dict[tuple[str, str], list[str]] = {}
    for target in targets:
        jobs.setdefault((target.job, target.path), []).append(target.address)
    content = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {"job_name": job, "metrics_path": metrics_path, **_where(addresses)} for (job, metrics_path), addresses in jobs.items()
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(content, sort_keys=False))
    temporary.replace(path)
    return path


def _where(addresses: list[str]) -> dict[str, object]:
    files = [address for address in addresses if address.startswith("/")]
    static = [address for address in addresses if not address.startswith("/")]
    listed: dict[str, object] = {"static_configs": [{"targets": static}]} if static else {}
    return listed | ({"file_sd_configs": [{"files": files}]} if files else {})


def start_prometheus(binary: Path, *, lab: Path, port: int, targets: Iterable[ScrapeTarget], records: Path, logs: Path) -> str:
    """Start Prometheus on 127.0.0.1:`port`, recorded as `prometheus` in `records`, and return its URL once it answers.

    Samples lie under `lab`. It answers before it scrapes: `wait_until_scraping` waits for that. Raises PermanentError
    with the end of its log when it ends at once, for instance because the port is taken.
    """
    config = write_config(_config(lab), targets)
    address = f"127.0.0.1:{port}"
    program = processes.start(
        "prometheus",
        [
            str(binary),
            f"--config.file={config}",
            f"--storage.tsdb.path={lab / 'prometheus-data' / 'samples'}",
            f"--web.listen-address={address}",
            "--storage.tsdb.retention.time=1d",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ],
        records=records,
        log=logs / "prometheus.log",
        env={"PATH": os.environ.get("PATH", os.defpath)} | processes.mark(),
        cwd=config.parent,
    )
    deadline = time.monotonic() + 20
    while program.alive() and time.monotonic() < deadline:
        if _answers(f"http://{address}/-/ready"):
            # Somebody else's Prometheus on the same port answers too while ours is dying of it.
            time.sleep(0.1)
            if program.alive():
                return f"http://{address}"
        time.sleep(0.05)
    tail = program.log_tail(5)
    processes.stop(program, deadline_s=2)
    raise PermanentError(f"Prometheus did not start on {address}; the end of {program.log}:\n{tail}")


def retarget(url: str, *, lab: Path, targets: Iterable[ScrapeTarget]) -> None:
    """Give the running Prometheus another set of targets. Raises Unreachable when it does not take them."""
    write_config(_config(lab), targets)
    try:
        httpx.post(f"{url}/-/reload", timeout=10, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise Unreachable(f"Prometheus at {url} did not reload its configuration: {error}. Its log says why.") from None


def wait_until_scraping(url: str, deadline_s: float, *, jobs: Collection[str] = ("crossfade-router",)) -> None:
    """Return once Prometheus holds a successful sample of each of `jobs`; the first comes about 5 s after it is ready.

    Raises Unreachable after `deadline_s` seconds, with what Prometheus says of the endpoints it cannot read.
    """
    deadline = time.monotonic() + deadline_s
    while not set(jobs) <= _jobs_up(url):
        if time.monotonic() > deadline:
            raise Unreachable(
                f"Prometheus at {url} has no sample of {', '.join(sorted(jobs))} after {deadline_s:.0f} s: {_complaints(url)}"
            )
        time.sleep(0.2)


def _config(lab: Path) -> Path:
    return lab / "prometheus-data" / "prometheus.yml"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _jobs_up(url: str) -> set[str]:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": "up == 1"}, timeout=2, trust_env=False).raise_for_status().json()
        return {sample["metric"]["job"] for sample in answer["data"]["result"]}
    except (httpx.HTTPError, ValueError, KeyError):
        return set()


def _complaints(url: str) -> str:
    try:
        targets = httpx.get(f"{url}/api/v1/targets", timeout=2, trust_env=False).raise_for_status().json()["data"]["activeTargets"]
        said = [f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["lastError"]]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"it does not answer ({error})"
    return "; ".join(said) or "it names no error; a target may be missing from its configuration"
