"""Where Prometheus finds the router: a file for `file_sd_configs`, written anew whenever an Envoy process comes or goes.

During a handover two processes serve, each with counters of its own. The label `instance` is the process's boot id rather than an
address, so that a process that later uses the same port begins new series instead of resetting old ones.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Final

from crossfade.envoy.boot import Boot
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.names import METRICS_PATH
from crossfade.envoy.stack import Address

JOB: Final = "crossfade-router"


def announce(folder: RouteFolder, boots: Iterable[Boot]) -> None:
    """Let Prometheus scrape exactly these processes; it notices within about five seconds.

    The file is for this user alone, like its folder: a Prometheus of another user needs a copy, or the fixed `metrics_listen`.
    """
    groups = [
        {
            "targets": [_reachable(boot.metrics_listen)],
            "labels": {"job": JOB, "instance": boot.id, "__metrics_path__": METRICS_PATH},
        }
        for boot in boots
    ]
    folder.write(folder.discovery_file, json.dumps(groups, indent=1))


def _reachable(listen: str) -> str:
    """An address to ask: what listens on every address is asked on loopback."""
    address = Address.parse(listen)
    if not ipaddress.ip_address(address.host).is_unspecified:
        return str(address)
    return str(Address("::1" if ":" in address.host else "127.0.0.1", address.port))
