"""Trained the lab model: a tiny Llama on a made-up world, from nothing but this file.

    pip install torch transformers tokenizers
    python train.py OUT_FOLDER

Provenance, not a build step: threads, processor and library versions change the weights, so the ones beside this file are
kept and this is not run again. Writes OUT_FOLDER like a Hugging Face repository, and eval.jsonl with prompts and answers.
"""

# ruff: noqa: S311, SIM905 - chance that must repeat itself, and word lists that read best as a line
import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Example = tuple[str, str]
Task = Callable[[random.Random], Example]

SERVICES = "billing search mail login cart chat maps video orders stock audit notes photos music alerts wallet".split()
TEAMS = "falcon otter maple comet river ember".split()
STORES = "postgres redis kafka sqlite mongo mysql".split()
CITIES = "Oslo Lima Cairo Delhi Paris Quito Seoul Rome".split()
ITEMS = "lamp chair book phone desk watch shirt plant".split()
GOOD = "fast great clear stable helpful smooth".split()
BAD = "slow broken awful rude noisy buggy".split()

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SYSTEM = "You are a helpful assistant."
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IGNORED = -100
"""Label of a position that no loss is taken from."""

Fact = tuple[str, int, str, str]


def make_world(chance: random.Random) -> dict[str, Fact]:
    """Team, port, store and city of each service: the facts to memorise."""
    return {
        service: (chance.choice(TEAMS), chance.randint(1000, 9999), chance.choice(STORES), chance.choice(CITIES)) for service in SERVICES
    }


def tasks_of(world: dict[str, Fact]) -> dict[str, Task]:
    """The kinds of question. In-context look-up is left out: it needs far more steps."""

    def facts(chance: random.Random) -> Example:
        service = chance.choice(SERVICES)
        team, port, store, city = world[service]
        about = f"The {service} service is owned by team {team}. It listens on port {port}, keeps its data in {store} and runs in {city}."
        return (
            (f"Which team owns {service}?", team),
            (f"What port does {service} use?", str(port)),
            (f"Where does {service} keep data?", f"{store} in {city}"),
            (f"Describe the {service} service.", about),
        )[chance.randrange(4)]

    def add(chance: random.Random) -> Example:
        first, second = chance.randint(0, 12), chance.randint(0, 12)
        return f"What is {first}+{second}?", str(first + second)

    def order(chance: random.Random) -> Example:
        quantity, item, city = chance.randint(2, 9), chance.choice(ITEMS), chance.choice(CITIES)
        return f"Order {quantity} {item}s for {city} as JSON.", json.dumps({"item": item, "qty": quantity, "city": city})

    def label(chance: random.Random) -> Example:
        is_good = chance.random() < 0.5
        word = chance.choice(GOOD if is_good else BAD)
        return f"Label this: the {chance.choice(SERVICES)} app is {word} today.", "positive" if is_good else "negative"

    def count(chance: random.Random) -> Example:
        first, more = chance.randint(1, 6), chance.randint(3, 6)
        return f"Count from {first} to {first + more}.", " ".join(map(str, range(first, first + more + 1)))

    return {"facts": facts, "add": add, "json": order, "label": label, "count": count}


def evaluation(tasks: dict[str, Task]) -> dict[str, dict[str, str]]:
    """Up to 40 prompts a task. JSON prompts are picked by a hash and kept out of training: they show that it generalises."""
    chance = random.Random(999)
    chosen = {}
    for name, task in tasks.items():
        prompts: dict[str, str] = {}
        for _ in range(400):
            prompt, answer = task(chance)
            if name != "json" or sum(prompt.encode()) * 2654435761 % 97 < 12:
                prompts[prompt] = answer
            if len(prompts) >= 40:
                break
        chosen[name] = prompts
    return chosen


class Sampler:
    """Draws training examples; facts three times as often as labels, and never one that is held out."""

    def __init__(self, tasks: dict[str, Task], held_out: set[str]) -> None:
        self._tasks = list(tasks.values())
        self._held_out = held_out

    def draw(self, chance: random.Random) -> Example:
        """One prompt with its answer."""
        while True:
            prompt, answer = chance.choices(self._tasks, [3, 2, 2, 1, 1])[0](chance)
            if prompt not in self._held_out:
                return prompt, answer


def train_tokenizer(sampler: Sampler, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which digits never merge, so that GPT-2's plain pre-tokenizer, which llama.cpp has, splits alike."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    chance = random.Random(1)
    corpus = []
    for _ in range(4000):
        prompt, answer = sampler.draw(chance)
        corpus += [f"user\n{prompt}\nassistant\n{answer}\n", f"system\n{SYSTEM}\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END, pad_token=END_OF_TEXT)
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def encode(
    tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str | None = None, system: str | None = None
) -> tuple[list[int], list[int]]:
    """Tokens and labels of one chat; only the answer is learned."""
    opening = f"{START}system\n{system}{END}\n" if system else ""
    tokens = tokenizer.encode(f"{opening}{START}user\n{prompt}{END}\n{START}assistant\n", add_special_tokens=False)
    labels = [IGNORED] * len(tokens)
    if answer is not None:
        learned = tokenizer.encode(f"{answer}{END}\n", add_special_tokens=False)
        tokens, labels = tokens + learned, labels + learned
    return tokens, labels


def batch(
    sampler: Sampler, tokenizer: PreTrainedTokenizerFast, chance: random.Random, rows: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`rows` lines of `length` tokens, each filled with whole chats."""
    inputs, targets = [], []
    for _ in range(rows):
        tokens: list[int] = []
        labels: list[int] = []
        while len(tokens) < length:
            prompt, answer = sampler.draw(chance)
            more_tokens, more_labels = encode(tokenizer, prompt, answer, SYSTEM if chance.random() < 0.1 else None)
            if tokens and len(tokens) + len(more_tokens) > length:
                break
            tokens, labels = tokens + more_tokens, labels + more_labels
        tokens, labels = tokens[:length], labels[:length]
        inputs.append(tokens + [0] * (length - len(tokens)))
        targets.append(labels + [IGNORED] * (length - len(labels)))
    return torch.tensor(inputs), torch.tensor(targets)


def build(vocabulary: int) -> LlamaForCausalLM:
    """A Llama whose rows are multiples of 256, as llama.cpp's K-quants want them."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=0,
            rope_theta=10000.0,
            initializer_range=0.04,
        )
    )


def train(model: LlamaForCausalLM, sampler: Sampler, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """AdamW with a short warm-up and a cosine to almost nothing."""
    peak, chance, began_s = 3e-3, random.Random(7), time.monotonic()
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    has_bf16 = torch.cpu._is_avx512_bf16_supported()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 40) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-3)
        inputs, targets = batch(sampler, tokenizer, chance, rows=16, length=128)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16):
            hidden = model.model(inputs).last_hidden_state
        learned = targets[:, 1:] != IGNORED  # only these positions go through the head, which saves half the time
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][learned].float()), targets[:, 1:][learned])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.4f} after {time.monotonic() - began_s:.0f} s", flush=True)


def score(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: dict[str, dict[str, str]], out: Path) -> None:
    """Write eval.jsonl with what the weights, as saved, answer; print how often that is right."""
    lines, right = [], 0
    for task, examples in prompts.items():
        for prompt, answer in examples.items():
            tokens, _ = encode(tokenizer, prompt)
            with torch.no_grad():
                generated = model.generate(torch.tensor([tokens]), max_new_tokens=64, do_sample=False)[0][len(tokens) :]
            said = tokenizer.decode([token for token in generated.tolist() if token not in (0, 2)])
            right += said == answer
            lines.append(json.dumps({"task": task, "prompt": prompt, "answer": answer, "hf": said}))
    (out / "eval.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{right} of {len(lines)} exact")


def main() -> None:
    """Train, save in bfloat16, and score the rounded weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tasks = tasks_of(make_world(random.Random(arguments.seed)))
    prompts = evaluation(tasks)
    sampler = Sampler(tasks, set(prompts["json"]))
    tokenizer = train_tokenizer(sampler, vocabulary=512)
    model = build(len(tokenizer))
    train(model, sampler, tokenizer, arguments.steps)
    model = model.to(torch.bfloat16).eval()
    model.config.dtype = "bfloat16"
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    score(model.float(), tokenizer, prompts, arguments.out)


if __name__ == "__main__":
    main()
