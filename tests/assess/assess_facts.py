"""A source and a target that fit each other; tests change one value at a time."""

from crossfade.assess.inventory import SourceFacts, TargetFacts
from crossfade.assess.shape import Shape

GIB = 2**30
SOURCE = SourceFacts(
    version="0.12.6",
    model="lab:latest",
    digest="sha256:0123456789abcdef",
    parameter_size="1.5M",
    quantization="Q4_K_M",
    context=1024,
    installed=("lab:latest",),
    shape=Shape("llama", 3, 2, 512, 256),
)
TARGET = TargetFacts(
    repo="crossfade/lab-model",
    commit="a" * 40,
    weight_bytes=16 * GIB,
    total_bytes=17 * GIB,
    files=6,
    served_names=("lab:latest", "lab"),
    context=1024,
    shape=Shape("llama", 3, 2, 512, 256),
)
