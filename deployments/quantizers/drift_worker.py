"""Has vLLM answer prompts with unquantized weights, and says what quantized ones think of the answers. Runs in vLLM's environment.

    python drift_worker.py JOB.json

The job is an object with base, quantized, prompts (texts), max_tokens, max_length, seed, device, options (for vllm.LLM), steps, and out, a
file.
`steps` is ["base", "quantized"], or one of them: on a GPU each wants a process of its own, because vLLM does not give all memory back;
on a CPU one process saves the import. What the first step found lies in `out` for the second. Output and life line are those of
llmcompressor_worker.py.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    """Do the job named on the command line."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM prints to standard output; those lines belong into the log

    def tell(event: str, text: str) -> None:
        events.write(json.dumps({"event": event, "text": text}) + "\n")

    threading.Thread(target=end_with_caller, daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text())
    os.environ.update(job["environment"])
    began = time.monotonic()
    tell("progress", f"loading vLLM to compare {len(job['prompts'])} answers")
    out = Path(job["out"])
    for step in job["steps"]:
        found = base_answers(job) if step == "base" else second_opinion(job, json.loads(out.read_text()))
        half = out.with_suffix(".tmp")
        half.write_text(json.dumps(found))
        half.replace(out)
        tell("progress", f"{step} weights have answered after {time.monotonic() - began:.0f} s")
    tell("result", f"compared in {time.monotonic() - began:.0f} s")


def end_with_caller() -> None:
    """Wait for the caller's end of standard input to close, which also happens when it is killed; then end, with vLLM's engines."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(3)


def base_answers(job: dict) -> dict:
    """The prompts as tokens, the greedy answer to each, and what the model itself thinks of it when it reads it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    prompts = [as_tokens(tokenizer, text)[-job["max_length"] :] for text in job["prompts"]]
    with Model(job, job["base"], longest(prompts, job)) as model:
        answers = model.answer(prompts)
        opinions = model.read(prompts, [answer["tokens"] for answer in answers])
    return {"prompts": prompts, "answers": answers, "base": opinions}


def second_opinion(job: dict, found: dict) -> dict:
    """What the quantized model thinks of the same answers, and what it answers itself."""
    prompts = found["prompts"]
    if job["device"] == "cpu" and is_fp8(job["quantized"]):
        multiply_fp8_without_onednn()
    with Model(job, job["quantized"], longest(prompts, job)) as model:
        opinions = model.read(prompts, [answer["tokens"] for answer in found["answers"]])
        return found | {"quantized": opinions, "own": model.answer(prompts)}


def is_fp8(folder: str) -> bool:
    """Whether the configuration names a group of weights in floats of 8 bits."""
    groups = json.loads((Path(folder) / "config.json").read_text()).get("quantization_config", {}).get("config_groups", {})
    return any(group["weights"]["type"] == "float" and group["weights"]["num_bits"] == 8 for group in groups.values())


def multiply_fp8_without_onednn() -> None:
    """On a CPU with AMX, torch leaves fp8 to oneDNN, which has no kernel for it there and takes its reference code.

    That is 100 ms for 17 x 256 by 256 x 512, and torch's own way takes 2. The numbers are the same. All else stays with oneDNN: vLLM's
    kernels for bfloat16 end the process without it.
    """
    import torch

    plain = torch._scaled_mm

    def scaled_mm(*arguments, **more):
        with torch.backends.mkldnn.flags(enabled=False):
            return plain(*arguments, **more)

    torch._scaled_mm = scaled_mm


def as_tokens(tokenizer, text: str) -> list[int]:
    """Through the chat template, as a server would; plain where the model has none."""
    if not tokenizer.chat_template:
        return tokenizer(text).input_ids
    asked = [{"role": "user", "content": text}]
    return tokenizer(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True), add_special_tokens=False).input_ids


def longest(prompts: list[list[int]], job: dict) -> int:
    """Tokens of the longest request; one more is always generated."""
    return max(map(len, prompts)) + job["max_tokens"] + 1


class Model:
    """One vLLM engine in this process, for as long as the block lasts."""

    def __init__(self, job: dict, folder: str, length: int) -> None:
        from vllm import LLM

        self.job = job
        self.engine = LLM(folder, max_model_len=length, enforce_eager=True, seed=job["seed"], disable_log_stats=True, **job["options"])

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        del self.engine
        gc.collect()

    def answer(self, prompts: list[list[int]]) -> list[dict]:
        """The greedy answer to each prompt: its tokens, the one that ends it included, and its text."""
        done = self._generate(prompts, max_tokens=self.job["max_tokens"])
        return [{"tokens": list(one.outputs[0].token_ids), "text": one.outputs[0].text} for one in done]

    def read(self, prompts: list[list[int]], answers: list[list[int]]) -> list[dict]:
        """Of each answer's tokens the log-probability the model gives it there, and whether it is its first choice."""
        both = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        done = self._generate(both, max_tokens=1, prompt_logprobs=1)
        return [opinion(one.prompt_logprobs, len(prompt), answer) for one, prompt, answer in zip(done, prompts, answers, strict=True)]

    def _generate(self, tokens: list[list[int]], **wanted):
        from vllm import SamplingParams

        asked = [{"prompt_token_ids": each} for each in tokens]
        return self.engine.generate(asked, SamplingParams(temperature=0, **wanted), use_tqdm=False)


def opinion(logprobs: list, begin: int, answer: list[int]) -> dict:
    """JSON has no infinity and no NaN: what broken weights give becomes null."""
    seen = [logprobs[begin + place].get(token) for place, token in enumerate(answer)]
    values = [float(each.logprob) if each and math.isfinite(each.logprob) else None for each in seen]
    return {"logprobs": values, "first": [bool(each and each.rank == 1) for each in seen]}


if __name__ == "__main__":
    main()
