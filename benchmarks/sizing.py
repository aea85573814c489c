"""How long sizing takes: a model that fits, and one that does not, with the search for ways out.

python benchmarks/sizing.py [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from rows import Row, machine, quantile, report

from crossfade.assess.architecture import read_architecture
from crossfade.assess.fit import Question, Wishes
from crossfade.assess.gpus import Gpu
from crossfade.assess.load import Load
from crossfade.assess.sizing import DoesNotFit, size
from crossfade.assess.tensors import count_index

GIB = 2**30
ROUNDS = 100

CONFIG = {
    **{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80},
    **{"num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size": 128256, "torch_dtype": "bfloat16"},
}
WEIGHT_BYTES = 141_107_412_992


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    model = read_architecture(CONFIG)
    load = Load(1500, 400, requests_per_s=5, seconds=10, longest_tokens=16_000)
    fits = Question(model, count_index(WEIGHT_BYTES, model), (Gpu("H100", 8, 80 * GIB, 0, 9.0),), load)
    unfit = replace(fits, gpus=(Gpu("L4", 8, 24 * GIB, 12 * GIB, 8.9),), wishes=Wishes(scheme="none"))
    hopeless = replace(unfit, load=replace(load, requests_per_s=5000.0))
    assert not isinstance(size(fits), DoesNotFit)
    assert isinstance(size(unfit), DoesNotFit)
    rows = [timed("sizing_fit_p95_ms", fits), timed("sizing_unfit_p95_ms", unfit), timed("sizing_hopeless_p95_ms", hopeless)]
    report("sizing", machine(), rows, chosen.json)


def timed(name: str, question: Question) -> Row:
    """The 95th percentile of one call in CPU time, which neighbours do not change; the first call is left out."""
    size(question)
    took_ms = []
    for _ in range(ROUNDS):
        began = time.process_time()
        size(question)
        took_ms.append((time.process_time() - began) * 1000)
    return Row(name, quantile(took_ms, 0.95), "ms", "<= 5", n=ROUNDS)


if __name__ == "__main__":
    main()
