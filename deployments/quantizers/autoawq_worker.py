"""Quantizes one model with AutoAWQ. Runs inside that tool's environment and imports nothing of Crossfade.

    python autoawq_worker.py JOB.json

Job and output are those of llmcompressor_worker.py. AutoAWQ is archived upstream: 0.2.9 is its last release, tested by its authors with
transformers 4.51; the lock pins versions it was seen to work with on Llama. It is here for those who need the files it writes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path

GROUP = 128


def main() -> None:
    """Do the job named on the command line."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to standard output; those lines belong into the log

    def tell(event: str, text: str) -> None:
        events.write(json.dumps({"event": event, "text": text}) + "\n")

    threading.Thread(target=end_with_caller, daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["scheme"] != "awq":
        raise SystemExit(f"autoawq makes awq only, not {job['scheme']!r}")
    began = time.monotonic()
    tell("progress", "loading autoawq, which is archived upstream (about 20 s)")
    quantize(job, tell)
    tell("result", f"quantized in {time.monotonic() - began:.0f} s")


def end_with_caller() -> None:
    """Wait for the caller's end of standard input to close, which also happens when it is killed."""
    while os.read(0, 1):
        pass
    os._exit(3)


def quantize(job: dict, tell) -> None:
    """Read the source, write the quantized model and tokenizer into `out`."""
    warnings.simplefilter("ignore", DeprecationWarning)  # a page of it, which says what the module's docstring says
    import torch
    from awq import AutoAWQForCausalLM
    from transformers import AutoTokenizer, set_seed

    set_seed(job["seed"])
    where = "auto" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(job["source"])
    samples = calibration(job, tokenizer)
    tell("progress", "loading the weights")
    model = AutoAWQForCausalLM.from_pretrained(job["source"], device_map=where, safetensors=True)
    tell("progress", f"quantizing to awq with {len(samples)} calibration prompts")
    model.quantize(
        tokenizer,
        quant_config={"zero_point": True, "q_group_size": GROUP, "w_bit": 4, "version": "GEMM"},
        calib_data=samples,  # its own default is a data set on the hub
        max_calib_samples=len(samples),
        max_calib_seq_len=max(map(len, samples)),  # it drops samples longer than a block, and blocks longer than all samples together
    )
    model.save_quantized(job["out"])
    tokenizer.save_pretrained(job["out"])


def calibration(job: dict, tokenizer) -> list[list[int]]:
    """Prompts as the model sees them in production, as tokens: through its own chat template, with the answer where there is one."""
    rows = [json.loads(line) for line in Path(job["calibration"]).read_text().splitlines() if line.strip()]
    chosen = rows[:: max(1, len(rows) // job["samples"])][: job["samples"]]  # spread over the file: suites are often sorted by task
    texts = [tokenizer.apply_chat_template(conversation(row), tokenize=False) for row in chosen]
    return [tokenizer(text, add_special_tokens=False).input_ids[: job["max_length"]] for text in texts]


def conversation(row: dict) -> list[dict]:
    """One line as chat messages: a case of a suite, or what a chat client sent."""
    if row.get("messages"):
        return row["messages"]
    asked = [{"role": "user", "content": row["prompt"]}]
    return [*asked, {"role": "assistant", "content": row["answer"]}] if row.get("answer") else asked


if __name__ == "__main__":
    main()
