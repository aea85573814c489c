"""All users are on the target: see it in the router itself, and say what that means."""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.errors import GateFailed, Unreachable
from crossfade.rollout.names import route_name
from crossfade.rollout.routes import FULL_BP
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.artifacts import publish, table
from tasks.quiet import quiet_task
from tasks.stage import still_on


@quiet_task("cut over {attempt}", retries=5, retry_delay_s=1)
def cut_over(attempt: Attempt) -> None:
    """Verify 100 % in the router's dump and keep the source warm; raises GateFailed when the router shows something else."""
    migration = attempt.migration
    bench = open_bench(migration)
    still_on(bench, attempt)
    shown = bench.desk.router.observed()
    route = shown.route(route_name(migration))
    if route.share_bp != FULL_BP:
        error = GateFailed(f"{migration}: the router shows {route.share_bp / 100:g} % on the target, not 100 %. Run 'crossfade status'.")
        publish(migration, "cutover", f"# cut over failed\n\n{error}\n", str(error))
        raise error
    try:
        bench.source.keep_warm(bench.model.ollama)
        warm = "yes, loaded with keep_alive -1"
    except Unreachable as error:
        warm = f"NO: {error}"
    rows = [
        ("share in force", "100 % on the target"),
        ("generation", shown.generation),
        ("source still warm", warm),
        ("clients", f"nothing to change: they go on talking to {bench.plan.router.listen}"),
        ("way back", f"crossfade rollback {migration}"),
    ]
    publish(migration, "cutover", f"# {migration} has cut over\n\n{table(('what', 'value'), rows)}\n", "100 % on the target, verified")
    get_run_logger().info("%s: 100 %% on the target, generation %d", migration, shown.generation)
