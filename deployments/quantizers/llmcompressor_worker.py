"""Quantizes one model with llm-compressor. Runs inside that tool's environment and imports nothing of Crossfade.

    python llmcompressor_worker.py JOB.json

The job is an object with source, out, scheme, calibration (path or null), samples, max_length, seed. Standard output carries
one JSON object a line: {"event": "progress" | "result", "text": ...}. Standard input is a life line: at its end the worker
ends too, so that nothing writes on after its caller was killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

OUT_OF_REACH = ["lm_head"]  # the head decides every token; quantizing it costs most and saves least
DATA_FREE = ("fp8",)


def main() -> None:
    """Do the job named on the command line."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to standard output; those lines belong into the log

    def tell(event: str, text: str) -> None:
        events.write(json.dumps({"event": event, "text": text}) + "\n")

    threading.Thread(target=end_with_caller, daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text())
    began = time.monotonic()
    tell("progress", "loading llm-compressor (about 20 s)")
    quantize(job, tell)
    tell("result", f"quantized in {time.monotonic() - began:.0f} s")


def end_with_caller() -> None:
    """Wait for the caller's end of standard input to close, which also happens when it is killed."""
    while os.read(0, 1):
        pass
    os._exit(3)


def quantize(job: dict, tell) -> None:
    """Read the source, write the quantized model and tokenizer into `out`."""
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    pin_nothing_without_accelerator()
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["source"])
    data = {} if data_free(job) else {"dataset": calibration(job, tokenizer), "max_seq_length": job["max_length"]}
    if data:
        data["num_calibration_samples"] = len(data["dataset"])
    tell("progress", "loading the weights")
    model = AutoModelForCausalLM.from_pretrained(job["source"], dtype="auto", use_safetensors=True)
    tell("progress", f"quantizing to {job['scheme']} with {data.get('num_calibration_samples', 'no')} calibration prompts")
    oneshot(model=model, recipe=recipe(job), output_dir=job["out"], tokenizer=tokenizer, **data)


def data_free(job: dict) -> bool:
    """Whether the weights alone decide the result."""
    return job["scheme"] in DATA_FREE or not job["calibration"]


def recipe(job: dict):
    """What llm-compressor is asked to do."""
    from llmcompressor.modifiers.awq import AWQModifier
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    layers = {"targets": "Linear", "ignore": OUT_OF_REACH}
    match job["scheme"]:
        case "fp8":
            return QuantizationModifier(scheme="FP8_DYNAMIC", **layers)
        case "w8a8" if data_free(job):
            return QuantizationModifier(scheme="W8A8", **layers)
        case "w8a8":
            return GPTQModifier(scheme="W8A8", **layers)
        case "gptq":
            return GPTQModifier(scheme="W4A16", **layers)
        case "awq":
            return [AWQModifier(**layers), QuantizationModifier(scheme="W4A16_ASYM", **layers)]
    raise SystemExit(f"unknown scheme {job['scheme']!r}")


def calibration(job: dict, tokenizer):
    """Prompts as the model sees them in production: through its own chat template, with the answer where there is one."""
    from datasets import Dataset

    rows = [json.loads(line) for line in Path(job["calibration"]).read_text().splitlines() if line.strip()]
    chosen = rows[:: max(1, len(rows) // job["samples"])][: job["samples"]]  # spread over the file: suites are often sorted by task
    texts = [tokenizer.apply_chat_template(conversation(row), tokenize=False) for row in chosen]
    return Dataset.from_list(
        [dict(tokenizer(text, add_special_tokens=False, truncation=True, max_length=job["max_length"])) for text in texts]
    )


def conversation(row: dict) -> list[dict]:
    """One line as chat messages: a case of a suite, or what a chat client sent."""
    if row.get("messages"):
        return row["messages"]
    asked = [{"role": "user", "content": row["prompt"]}]
    return [*asked, {"role": "assistant", "content": row["answer"]}] if row.get("answer") else asked


def pin_nothing_without_accelerator() -> None:
    """llm-compressor 0.14 pins host memory during AWQ's smoothing unconditionally, which raises on a machine without GPU."""
    import torch
    from llmcompressor.pipelines import cache

    if torch.accelerator.is_available():
        return
    for thing in vars(cache).values():
        if isinstance(thing, type) and hasattr(thing, "pin_memory"):
            thing.pin_memory = leave_as_is


def leave_as_is(*_, **__) -> None:
    """Stands in for pinning."""


if __name__ == "__main__":
    main()
