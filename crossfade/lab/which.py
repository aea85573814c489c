"""Which lab a command means, and whether it means one at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from crossfade.home import CHECKOUT
from crossfade.lab.stack import Lab


def lab_folder() -> Path:
    """`.lab` of this checkout, or what `CROSSFADE_LAB_FOLDER` says."""
    return Path(os.environ.get("CROSSFADE_LAB_FOLDER") or CHECKOUT / ".lab").expanduser().resolve()


def this_lab() -> Lab:
    """The lab, and this process made to look for tools' environments there and for its journal nowhere else."""
    lab = Lab(lab_folder())
    os.environ["CROSSFADE_ENVIRONMENTS"] = str(lab.folder / "environments")
    os.environ.pop("CROSSFADE_JOURNAL", None)
    return lab


def use_lab_if_it_is_up() -> None:
    """Without CROSSFADE_HOME, a lab of which any part runs is what is meant; Prefect need not be among them."""
    if "CROSSFADE_HOME" in os.environ:
        return
    lab = Lab(lab_folder())
    if lab.running():
        os.environ.pop("CROSSFADE_JOURNAL", None)
        os.environ.update(lab.environment())
        sys.stderr.write(f"using the lab in {lab.folder}\n")
