"""An engine that costs next to nothing: two ports of one process, `source` and `target`, each answering with its name.

    python benchmarks/upstream.py SOURCE_PORT TARGET_PORT

A body with `"events"` in it is answered by that many server-sent events, 50 ms apart; any other POST by one short completion.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

EVERY_S = 0.05
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def completion(engine: str) -> bytes:
    """A whole answer, as the OpenAI API has it; `system_fingerprint` names the engine."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Forty-two."}}
    usage = {"prompt_tokens": 300, "completion_tokens": 4, "total_tokens": 304}
    document = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    body = json.dumps({**document, "system_fingerprint": engine}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Engine(asyncio.Protocol):
    """One connection."""

    def __init__(self, name: str) -> None:
        self._name, self._answer, self._buffer = name, completion(name), b""
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the buffer."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            if b'"events"' in body:
                task = asyncio.get_running_loop().create_task(self._stream(json.loads(body)["events"]))
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
            else:
                self._transport.write(self._answer)

    async def _stream(self, events: int) -> None:
        self._transport.write(_STREAM_HEAD)
        for number in range(events):
            data = f"data: {self._name} {number}\n\n".encode()
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            await asyncio.sleep(EVERY_S)
        self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


async def main(ports: dict[str, int]) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda name=name: Engine(name), "127.0.0.1", port, backlog=512) for name, port in ports.items()]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main({"source": int(sys.argv[1]), "target": int(sys.argv[2])}))
