"""Adapters put behind the ports for one migration. The only module that knows both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossfade.envoy import process as envoy_process
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.errors import AnotherRouter, PermanentError, Unreachable
from crossfade.guard.heartbeat import GuardPost
from crossfade.home import Home
from crossfade.ollama.client import OllamaSource
from crossfade.ollama.warm import Warm
from crossfade.plan import ModelPlan, Plan
from crossfade.plan.load import parse_plan
from crossfade.ports import Standby, SystemClock
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.ramp.logbook import Desk
from crossfade.rollout.names import route_name
from crossfade.rollout.state import MigrationState
from crossfade.store import open_journal
from crossfade.store.journal import SqlJournal
from crossfade.vllm.client import VllmTarget


@dataclass(frozen=True)
class Bench:
    """Everything a stage may need for one migration."""

    home: Home
    migration: str
    model: ModelPlan
    desk: Desk
    source: OllamaSource
    target: VllmTarget

    @property
    def plan(self) -> Plan:
        """The plan as it was when the migration began."""
        return self.desk.plan

    @property
    def router(self) -> EnvoyRouter:
        """The router itself, for what only it can do: waiting until an engine is idle."""
        return EnvoyRouter(self.home.router)

    @property
    def weights(self) -> Path:
        """Where weights of this plan lie."""
        return self.plan.store / "weights" if self.plan.store else self.home.weights

    def state(self) -> MigrationState:
        """The newest state in the journal."""
        return self.desk.journal.state(self.migration)


def open_bench(migration: str) -> Bench:
    """The bench of a migration that is in the journal; raises UnknownMigration otherwise."""
    home = Home.from_environment()
    journal = open_journal(home)
    state = journal.state(migration)
    # Paths in the stored plan were made absolute when it was begun, so the folder here does not matter.
    plan = parse_plan(journal.plan_text(state.plan_digest), origin=f"plan of {migration}", folder=Path("/")).plan
    model, source = plan.model(migration.split("/", 1)[1]), OllamaSource(plan.source.url, timeout_s=60)
    return Bench(
        home=home,
        migration=migration,
        model=model,
        desk=_desk(plan, home, journal, Warm(source, model.ollama)),
        source=source,
        target=target_of(plan, timeout_s=120),
    )


def target_of(plan: Plan, *, timeout_s: float, url: str = "") -> VllmTarget:
    """A client of the plan's vLLM, or of `url` in front of it, that sends the key where the plan names one."""
    url = url or f"http://127.0.0.1:{plan.target.runtime.port}"
    return VllmTarget(url, timeout_s=timeout_s, key_file=plan.target.vllm.api_key_file)


def _desk(plan: Plan, home: Home, journal: SqlJournal, standby: Standby) -> Desk:
    return Desk(
        plan=plan,
        journal=journal,
        router=EnvoyRouter(home.router),
        metrics=_metrics(plan),
        watchman=GuardPost(home),
        standby=standby,
        clock=SystemClock(),
    )


def _metrics(plan: Plan) -> PrometheusMetrics:
    return PrometheusMetrics(plan.prometheus.url, timeout_s=plan.prometheus.timeout, stale_after_s=plan.prometheus.stale_after)


def start_router(home: Home, plan: Plan) -> None:
    """The router of this plan, running: started now, adopted when it runs already, or handed over to when its addresses changed.

    A handover waits for a moment without users on any target: raises AnotherRouter while a share is above 0, and else what
    `envoy.process.start` and `hand_over` raise.
    """
    stack = Stack(
        listen=plan.router.listen,
        metrics_listen=plan.router.metrics_listen,
        source=plan.source.url.split("://", 1)[1],
        target=plan.target.address,
        folder=home.router,
        body_limit_bytes=plan.router.body_limit,
        close_destructive=plan.router.close_destructive,
    )
    try:
        envoy_process.start(stack, home, intents=_intents(home))
    except AnotherRouter:
        if any(route.share_bp for route in EnvoyRouter(home.router).table().routes):
            raise
        envoy_process.hand_over(stack, home)


def _intents(home: Home) -> dict[str, int]:
    """The journal's share of each route, so that a router that must restore its table does not come back above it."""
    try:
        return {route_name(state.name): state.share_bp for state in open_journal(home).states()}
    except (PermanentError, Unreachable):
        return {}  # the route folder alone must be enough to start
