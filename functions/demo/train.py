"""Train the demo model from scratch on the CPU: `python -m functions.demo.train`.

Needs the dependency group `train` (with torch's CPU build). One thread by default: matrices this small gain little from
a second one and lose a lot by it on a busy machine, and the result does not depend on the number of cores: the corpus
and the seed decide it. f32, because CPUs without bf16 multiply it several times slower.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import torch

from functions.demo import MODEL_FOLDER, chat, corpus, network
from functions.demo.export import export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Tokenizer

_LONGEST: Final = 768
_POOL: Final = 512


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast: `steps` batches of about `batch` tokens."""

    steps: int = 1300
    batch: int = 768
    rate: float = 2e-3
    warm_up: int = 50
    seed: int = 1
    threads: int = 1


def learning_rate(plan: Plan, step: int) -> float:
    """Up in a line, then down in half a cosine to zero."""
    if step < plan.warm_up:
        return plan.rate * (step + 1) / plan.warm_up
    return plan.rate * 0.5 * (1 + math.cos(math.pi * (step - plan.warm_up) / (plan.steps - plan.warm_up)))


def samples(facts: corpus.Corpus, tokenizer: Tokenizer, rng: Random) -> Iterator[chat.Sample]:
    """Conversations without end, one in sixteen of them plain text without roles."""
    while True:
        if rng.random() < 1 / 16:
            topic = corpus.draw_topic(facts, rng)
            yield chat.encode_completion(tokenizer, corpus.ask(facts, topic, rng), topic.answer)
        else:
            sample = chat.encode_conversation(tokenizer, corpus.draw_conversation(facts, rng))
            if len(sample.ids) <= _LONGEST:
                yield sample


def batches(source: Iterator[chat.Sample], size: int, rng: Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Samples of like length together, padded at the end: at most `size` tokens each."""
    while True:
        pool = sorted((next(source) for _ in range(_POOL)), key=lambda sample: len(sample.ids))
        groups: list[list[chat.Sample]] = [[]]
        for sample in pool:
            if len(sample.ids) * (len(groups[-1]) + 1) > size:
                groups.append([])
            groups[-1].append(sample)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(sample.ids) for sample in group)
            ids = [sample.ids + [0] * (width - len(sample.ids)) for sample in group]
            learn = [sample.learn + [0.0] * (width - len(sample.learn)) for sample in group]
            yield torch.tensor(ids), torch.tensor(learn)


def texts_for_tokenizer(facts: corpus.Corpus, rng: Random) -> list[str]:
    """Enough of the corpus for its words to become tokens, the answers above all."""
    conversations = [corpus.draw_conversation(facts, rng) for _ in range(8000)]
    return [message.content for messages in conversations for message in messages]


def make_optimizer(weights: network.Weights, plan: Plan) -> torch.optim.Optimizer:
    matrices = [weight for weight in weights.values() if weight.ndim == 2]
    vectors = [weight for weight in weights.values() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), fused=True)


def train(facts: corpus.Corpus, tokenizer: Tokenizer, shape: network.Shape, plan: Plan) -> network.Weights:
    """The whole training. Prints a line every 50 steps."""
    torch.set_num_threads(plan.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    weights = network.initialise(shape, torch.Generator().manual_seed(plan.seed))
    optimizer = make_optimizer(weights, plan)
    rng = Random(plan.seed)
    source = batches(samples(facts, tokenizer, rng), plan.batch, rng)
    started, smooth, tokens = time.monotonic(), 0.0, 0
    for step in range(plan.steps):
        ids, learn = next(source)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step)
        loss = network.loss(weights, shape, ids, learn)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        tokens += ids.numel()
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 50 == 49:
            seconds = time.monotonic() - started
            print(
                f"step {step + 1}/{plan.steps}  loss {smooth:.4f}  {seconds:.0f} s  {tokens / seconds:.0f} tokens/s",
                flush=True,
            )
    return {name: weight.detach() for name, weight in weights.items()}


def main() -> None:
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="python -m functions.demo.train", description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER, help="folder of the model's files")
    for name in ("steps", "batch", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    arguments = parser.parse_args()
    plan = Plan(steps=arguments.steps, batch=arguments.batch, seed=arguments.seed, threads=arguments.threads)
    started = time.monotonic()
    facts, shape = corpus.load(), network.Shape()
    tokenizer = chat.train_tokenizer(texts_for_tokenizer(facts, Random(plan.seed)), vocabulary=shape.vocabulary)
    weights = train(facts, tokenizer, shape, plan)
    for file in export(weights, shape, tokenizer, arguments.output):
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    print(f"trained in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
