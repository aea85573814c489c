"""A tiny model folder and the lab's hub serving it, both real: real safetensors bytes, real sockets, the real client library."""

import json
import struct
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crossfade.hub.access import Access
from crossfade.lab.hub_content import Faults, LabRepository
from crossfade.lab.hub_server import LabHub, running

REPO = "crossfade/tiny"


@dataclass
class Served:
    hub: LabHub
    address: str
    repo: str = REPO

    @property
    def commit(self):
        return self.hub.commit(self.repo)

    @property
    def access(self):
        return Access(self.address)

    def fetched(self):
        """Names of the files whose bytes were asked for, in order."""
        return [each.path.rpartition("/")[2] for each in self.hub.requests if each.method == "GET" and "/resolve/" in each.path]


@dataclass
class Workshop:
    root: Path
    stack: ExitStack = field(default_factory=ExitStack)

    @staticmethod
    def safetensors(tensor_bytes):
        """One tensor of that many bytes, as the format has it."""
        header = json.dumps({"weight": {"dtype": "U8", "shape": [tensor_bytes], "data_offsets": [0, tensor_bytes]}}).encode()
        pattern = bytes(index % 251 for index in range(4096))
        return struct.pack("<Q", len(header)) + header + (pattern * (tensor_bytes // 4096 + 1))[:tensor_bytes]

    def folder(self, files=None):
        """A model folder; `files` adds to it, None removes."""
        content = {
            "model.safetensors": self.safetensors(300_000),
            "config.json": b'{"architectures": ["TinyForCausalLM"]}',
            "tokenizer.json": b'{"version": "1.0"}',
            "README.md": b"# tiny",
        } | (files or {})
        folder = self.root / f"model-{len(list(self.root.iterdir()))}"
        for name, data in content.items():
            if data is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        return folder

    def serve(self, files=None, **faults):
        hub = LabHub([LabRepository(REPO, self.folder(files), Faults(**faults))])
        return Served(hub, self.stack.enter_context(running(hub)))

    def serve_well(self, folder):
        """The same folder on a hub without faults."""
        hub = LabHub([LabRepository(REPO, folder)])
        return Served(hub, self.stack.enter_context(running(hub)))


@pytest.fixture
def workshop(tmp_path):
    root = tmp_path / "workshop"
    root.mkdir()
    made = Workshop(root)
    with made.stack:
        yield made


@pytest.fixture
def store(tmp_path):
    return tmp_path / "weights"
