"""The lab's llama.cpp engine with what a target is asked for beside answers: `/health` and `/metrics`, as vLLM has them.

    python benchmarks/lab_engine.py PORT NAME=FILE.gguf [NAME=FILE.gguf ...]

It serves both ends of a stand, each behind a fault proxy of its own, so that the two differ in nothing but their faults.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from crossfade.lab.source import create_app
from crossfade.lab.source_models import Catalogue


class WithHealth:
    """The engine's application, and before it the two addresses a router's health check and Prometheus ask."""

    def __init__(self, engine: ASGIApp) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        path = scope.get("path")
        if path == "/health":
            await PlainTextResponse("")(scope, receive, send)
        elif path == "/metrics":
            await Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)(scope, receive, send)
        else:
            await self._engine(scope, receive, send)


def main(port: int, models: list[str]) -> None:
    """Serve until killed."""
    catalogue = Catalogue((name, Path(file)) for name, _, file in (model.partition("=") for model in models))
    # idle connections stay open, as Ollama keeps them: a router that pools them relies on it
    uvicorn.run(WithHealth(create_app(catalogue)), host="127.0.0.1", port=port, log_level="warning", timeout_keep_alive=86_400)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
