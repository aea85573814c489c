import os
import shutil

import pytest

from crossfade.errors import ToolMissing
from crossfade.home import CHECKOUT, Home
from crossfade.runtime.environments import find
from crossfade.weights import WeightsManifest, hash_files, seal

COMMIT = "5eed" * 10


@pytest.fixture(scope="session")
def tool():
    """Name of an environment -> its Python, as the product looks it up."""
    home = Home.from_environment() if "CROSSFADE_HOME" in os.environ else Home(CHECKOUT / ".lab")

    def python(name):
        try:
            return find(name, home).python
        except ToolMissing as missing:
            pytest.skip(f"a tool's environment is needed: {missing}")

    return python


@pytest.fixture(scope="session")
def lab_weights(tmp_path_factory):
    """The lab model as a download leaves it."""
    folder = tmp_path_factory.mktemp("source") / COMMIT
    shutil.copytree(CHECKOUT / "deployments" / "lab-model", folder, ignore=shutil.ignore_patterns("eval.jsonl", "*.py", "*.md"))
    names = sorted(path.name for path in folder.iterdir())
    seal(folder, WeightsManifest(repo="lab/tiny", commit=COMMIT, made_by="test", files=hash_files(folder, names)))
    return folder


@pytest.fixture(scope="session")
def suite():
    return CHECKOUT / "deployments" / "lab-model" / "eval.jsonl"
