"""Benchmarks are scripts, not part of a package: their folder is put on the path, as it is when one of them runs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
