r"""A hub on this machine: serves folders as model repositories over the HuggingFace hub's own HTTP routes.

The real, unmodified `huggingface_hub` works against it with `HF_ENDPOINT=http://127.0.0.1:PORT`. Folders are hashed once, at
start; the commit is a hash of their content. Faults are chosen per repository, so that a test can show what a user sees
when a hub misbehaves. Xet is not offered, so plain HTTP is used.

    python -m crossfade.lab.hub_server --port 0 --repo crossfade/lab-model=deployments/lab-model \
        [--fault crossfade/lab-model:corrupt=config.json]
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crossfade.lab.hub_content import Faults, LabRepository, Shelf, refuse


@dataclass(frozen=True)
class Answered:
    """A request and what it got."""

    method: str
    path: str
    status: int
    range: str = ""


class LabHub:
    """The ASGI app. `requests` is its record in the order of arrival, over HTTP at `/_lab/requests`.

    `searchable` is False for a hub whose search answers 503, as the real one's does on bad days while files go on being served.
    """

    def __init__(self, repositories: Sequence[LabRepository], *, searchable: bool = True) -> None:
        self._shelves = {repository.name: Shelf(repository) for repository in repositories}
        self._searchable = searchable
        self.requests: list[Answered] = []
        base, methods = "/api/models/{org}/{name}", ["GET", "HEAD"]
        self.app = Starlette(
            routes=[
                Route("/_lab/requests", self._record),
                Route("/api/models", self._search),
                Route(base, self._info, methods=methods),
                Route(base + "/revision/{revision:path}", self._info, methods=methods),
                Route(base + "/tree/{revision}", self._tree, methods=methods),
                Route("/{org}/{name}/resolve/{revision}/{path:path}", self._file, methods=methods),
            ]
        )

    def commit(self, name: str) -> str:
        """The one commit the repository has."""
        return self._shelves[name].commit

    async def _record(self, _: Request) -> Response:
        return JSONResponse(
            [{"method": each.method, "path": each.path, "status": each.status, "range": each.range} for each in self.requests]
        )

    async def _search(self, request: Request) -> Response:
        if not self._searchable:
            return self._logged(request, refuse(503, "", "Service unavailable"))
        author, wanted = request.query_params.get("author"), set(request.query_params.getlist("filter"))
        found = [
            shelf.info(blobs=False)
            for name, shelf in self._shelves.items()
            if (author is None or name.startswith(f"{author}/")) and wanted <= set(shelf.tags())
        ]
        return self._logged(request, JSONResponse(found))

    async def _info(self, request: Request) -> Response:
        return self._logged(request, self._answer(request, "info"))

    async def _tree(self, request: Request) -> Response:
        return self._logged(request, self._answer(request, "tree"))

    async def _file(self, request: Request) -> Response:
        return self._logged(request, self._answer(request, "files"))

    def _logged(self, request: Request, response: Response) -> Response:
        self.requests.append(Answered(request.method, request.url.path, response.status_code, request.headers.get("range", "")))
        return response

    def _answer(self, request: Request, kind: Literal["info", "tree", "files"]) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        shelf = self._shelves.get(f"{request.path_params['org']}/{request.path_params['name']}")
        if shelf is None:
            return refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if refusal := shelf.refusal(kind, token):
            return refusal
        if request.path_params.get("revision", "main") not in ("main", shelf.commit):
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        if kind == "info":
            return JSONResponse(shelf.info(blobs="blobs" in request.query_params))
        if kind == "tree":
            return JSONResponse(shelf.tree())
        return shelf.file(request)


@contextmanager
def running(hub: LabHub, port: int = 0) -> Iterator[str]:
    """The hub in a thread of this process, until the block ends; gives its address."""
    listener = _listen(port)
    server = uvicorn.Server(_config(hub))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="lab-hub", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def _config(hub: LabHub) -> uvicorn.Config:
    # a cut connection is a fault we play, not an error to print
    return uvicorn.Config(hub.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)


def _with_faults(repositories: Mapping[str, LabRepository], wishes: Sequence[str]) -> tuple[LabRepository, ...]:
    """`ORGANISATION/NAME:FAULT=VALUE`, one each."""
    kinds = {each.name: type(getattr(Faults(), each.name)) for each in fields(Faults)}
    found = dict(repositories)
    for wish in wishes:
        name, _, fault = wish.partition(":")
        key, _, value = fault.partition("=")
        if name not in found or key not in kinds:
            raise SystemExit(f"--fault {wish}: write it like ORGANISATION/NAME:FAULT=VALUE; faults are {', '.join(kinds)}")
        typed: Any = value not in ("", "0", "false") if kinds[key] is bool else kinds[key](value)
        found[name] = replace(found[name], faults=replace(found[name].faults, **{key: typed}))
    return tuple(found.values())


def main() -> None:
    """Serve until SIGTERM; one line on stdout says that requests are taken."""
    parser = argparse.ArgumentParser(prog="python -m crossfade.lab.hub_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--repo", action="append", required=True, metavar="ORGANISATION/NAME=FOLDER")
    parser.add_argument("--fault", action="append", default=[], metavar="ORGANISATION/NAME:FAULT=VALUE")
    options = parser.parse_args()
    repositories = {}
    for wish in options.repo:
        name, _, folder = wish.partition("=")
        if name.count("/") != 1 or not Path(folder).is_dir():
            raise SystemExit(f"--repo {wish}: write it like ORGANISATION/NAME=FOLDER, and the folder must exist")
        repositories[name] = LabRepository(name, Path(folder))
    hub = LabHub(_with_faults(repositories, options.fault))
    try:
        listener = _listen(options.port)
    except OSError as error:
        raise SystemExit(f"cannot listen on 127.0.0.1:{options.port}: {error.strerror}") from None
    sys.stdout.write(f"hub ready on http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(_config(hub)).run(sockets=[listener])


if __name__ == "__main__":
    main()
