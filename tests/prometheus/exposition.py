"""A metrics endpoint whose counters a test moves by hand: the real Prometheus scrapes it over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ALIVE = 'envoy_http_rds_update_attempt{envoy_http_conn_manager_prefix="llm",envoy_rds_route_config="llm"}'
BOUNDS = ("10", "50", "100", "500", "1000", "+Inf")


class Exposition:
    """Serves the counters it was given; `silent` answers 503 as a dying router would."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, float] = {ALIVE: 1}
        self.silent = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def add(self, counted: Mapping[str, float]) -> None:
        """Count more at once, so that no scrape sees half of it."""
        with self._lock:
            for series, by in counted.items():
                self._counters[series] = self._counters.get(series, 0) + by

    def drop(self, series: str) -> None:
        """Show one series no more."""
        with self._lock:
            del self._counters[series]

    def restart(self, counted: Mapping[str, float]) -> None:
        """Start anew: only these counters, from zero."""
        with self._lock:
            self._counters = {ALIVE: 1, **counted}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _text(self) -> bytes:
        with self._lock:
            return "".join(f"{series} {value}\n" for series, value in self._counters.items()).encode()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - two selves meet here
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer._text()
                self.send_response(503 if outer.silent else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        return Handler


def requests(
    route: str, n: int, *, intended: str = "target", engine: str = "target", code: str = "200", flags: str = "-"
) -> dict[str, float]:
    """`n` requests as the router counts them."""
    return {f'envoy_cf_requests{{route="{route}",intended="{intended}",engine="{engine}",code="{code}",flags="{flags}"}}': n}


def answers(route: str, n: int, ms: float, *, arm: str = "target", measure: str = "ttft") -> dict[str, float]:
    """`n` answers that took `ms`, in the histogram of an arm."""
    labels = f'route="{route}",intended="{arm}",engine="{arm}"'
    return {f'envoy_cf_{measure}_bucket{{{labels},le="{le}"}}': n if ms < float(le) else 0 for le in BOUNDS}
