"""This plan's vLLM told from others that the same Prometheus scrapes.

Prometheus calls a target by the address it scrapes, the label `instance`, unless somebody relabels it. So the plan's own series are
those with its own address; only where nothing is scraped under that address, what there is otherwise is taken for it.
"""

from __future__ import annotations

import re

from crossfade.plan.target import TargetPlan

_STARTED, _SCRAPED = "process_start_time_seconds", "up"


def started_query(target: TargetPlan) -> str:
    """PromQL for when this target was started, in seconds since the epoch.

    Where no address of it is scraped, the start of the only vLLM that is. With several of them it finds nothing: another one's restart
    is not this one's. A target that is down is still scraped, so it is not taken for another one then.
    """
    own, every = f'{{job="vllm",{_own(target)}}}', '{job="vllm"}'
    alone = f"count({_SCRAPED}{every}) == 1"
    return f"max({_STARTED}{own}) or (max({_STARTED}{every}) and on() ({alone}) and on() absent({_SCRAPED}{own}))"


def narrowed(promql: str, target: TargetPlan) -> str:
    """A query over vLLM's metrics that name no labels, of this target's alone; of all where no address of it is scraped."""
    own = f"{{{_own(target)}}}"
    of_it = re.sub(r"\bvllm:\w+", lambda metric: metric[0] + own, promql)
    return f"({of_it}) or (({promql}) and on() absent({_SCRAPED}{own}))"


def _own(target: TargetPlan) -> str:
    """A label matcher for the addresses at which a Prometheus may scrape it: where it listens, and where the router reaches it."""
    port = target.runtime.port
    addresses = dict.fromkeys((f"127.0.0.1:{port}", f"localhost:{port}", target.address))
    return 'instance=~"' + "|".join(address.replace(".", "[.]") for address in addresses) + '"'
