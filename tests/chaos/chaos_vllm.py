"""Kills of the target: the real vLLM (CPU build, the lab's model), with users who read its answers token by token.

One start takes 20 to 60 s, so not every boundary is tried. A tick asks nothing of the target once it has its evidence, so what may
differ is only what the killed target is about to get: nothing yet (`before-decision`), more users as soon as the tick goes on
(`after-intent`), more users already (`after-rename`), and all written down (`after-outcome`).

The target stays dead until the guard has rolled back by itself: the router asks the source meanwhile. Only then it is started again,
and what the next migration is judged by begins when the router sends it requests again.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import httpx
from chaos_kills import Chaos, cases_of
from chaos_stand import Case, Stand, eventually
from chaos_traffic import StreamingUsers
from envoy_rig import free_port

from crossfade.home import CHECKOUT
from crossfade.ports import SystemClock
from crossfade.rollout.phases import Phase
from crossfade.runtime.environments import find
from crossfade.runtime.launch import Launch
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.command import ServeSpec, command, environment, served_names
from crossfade.vllm.diagnosis import diagnose

BOUNDARIES = ("before-decision", "after-intent", "after-rename", "after-outcome")
_COUNTED_S = 3.0
"""How late the router's last failures come to be counted: it flushes and is scraped once a second each."""


class WithVllm(Chaos):
    """The stand with vLLM as its target."""

    def __init__(self, folder: Path, kills: int) -> None:
        os.environ.setdefault("CROSSFADE_ENVIRONMENTS", str(CHECKOUT / ".lab" / "environments"))
        port, cases = free_port(), cases_of(kills)
        super().__init__(Stand(folder, guarded=True, target=f"127.0.0.1:{port}", ttft="5s"))
        spec = ServeSpec(
            python=find("vllm", self.stand.home).python,
            weights=CHECKOUT / "deployments" / "lab-model",
            served_names=served_names(cases[0].model, [case.model for case in cases]),
            port=port,
            device="cpu",
            cache=folder / "vllm-cache",
            max_model_len=512,
            max_num_seqs=16,
            dtype="float32",
            kv_cache_bytes=64 << 20,
            enforce_eager=True,
        )
        self._launch, self._model = Launch(tuple(command(spec)), environment(spec, os.environ), port), cases[0].model
        self._runtime, self._client = ProcessRuntime(self.stand.home), VllmTarget(f"http://127.0.0.1:{port}", timeout_s=30)
        self._serve()
        self.stand.open(cases, StreamingUsers)
        self.start_guard()

    def start(self, victim: str) -> None:
        """Start it again, and return when the router sends it requests and what it lost is counted."""
        assert victim == "vllm"
        self._serve()
        began_s = time.time()
        eventually(lambda: self._is_asked(since_s=began_s), within_s=60, every_s=0.3)
        self.stand.counts_from(time.time() + _COUNTED_S)

    def begin(self, case: Case) -> None:
        """Each migration is proven by what was seen since the last start of its target."""
        self.stand.begin(case)

    def follow(self, victim: str, boundary: str, case: Case) -> str:
        """Kill it, wait for the guard, write the rollback down, start it again."""
        standing = self.at(boundary, case)
        killed_s = time.time()
        self.kill(victim)
        os.kill(standing.pid, signal.SIGCONT)
        standing.wait()
        eventually(lambda: case.route in self.stand.router.latches(), within_s=60)
        latch = self.stand.router.latches()[case.route]
        self.stand.tick(case).wait()
        state = self.stand.journal.state(case.migration)
        assert (state.phase, state.share_bp) == (Phase.ROLLED_BACK, 0), state.because
        self.start(victim)
        return f"rolled back by the {latch.by}, {latch.at_s - killed_s:.1f} s after the kill"

    def _serve(self) -> None:
        target = self._runtime.start_target("vllm", self._launch)
        asked = partial(self._client.complete, self._model, "What is 4+6?", max_tokens=8)
        self._runtime.wait_ready(target, probe=asked, diagnose=diagnose, clock=SystemClock(), deadline_s=180, on_progress=print)

    def _is_asked(self, *, since_s: float) -> bool:
        healthy = 'envoy_cluster_membership_healthy{envoy_cluster_name="target"}'
        query = {"query": f"{healthy} >= 1 and timestamp({healthy}) >= {since_s}"}
        answer = httpx.get(f"{self.stand.prometheus}/api/v1/query", params=query, trust_env=False).json()
        return bool(answer["data"]["result"])

    def close(self) -> None:
        """Stop everything."""
        self._client.close()
        super().close()
