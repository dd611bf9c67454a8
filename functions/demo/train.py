"""Train the demo model from scratch on the CPU: `python -m functions.demo.train`.

Needs the dependency group `train` (with torch's CPU build). Corpus, seed and steps decide the result: the same machine
with the same torch gives the same files, byte for byte. Another CPU, or another torch, multiplies in another order, and
gives a model that answers much the same. One thread: with matrices this small a second one mostly waits for the first.
f32, because CPUs without bf16 multiply that several times slower.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import torch

from functions.demo import MODEL_FOLDER, chat, corpus, muon, network, scaffold
from functions.demo.export import export
from functions.demo.samples import BEGINNING, batches, number, rehearsals, samples, texts_for_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Tokenizer
    from torch import Tensor

_WORDS: Final = (network.EMBEDDING, scaffold.SHARED, scaffold.ANSWERS)
_WORD_RATE: Final = 4e-3
_BAGS: Final = 256
_SHORT: Final = (0.6, 0.15)
"""The share of short samples: in a plan's first steps, and then."""
_KNOWN: Final = 0.2
"""The share of the rate at which embeddings go on, which know the words by then."""
_TOLD: Final = 2.0
_SURE: Final = 2.5
"""Who sets no temperature gets the engine's, which is for models that know many right answers: here is one. So the
logits are as many times as large."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast: `words` batches of questions as mere words; then `steps` batches of about `batch` tokens,
    where in the `first` more questions are short, and the last `cooling` are ever slower; then `talks` batches of whole
    talks."""

    words: int = 400
    steps: int = 940
    first: int = 300
    batch: int = 1024
    rate: float = 3e-3
    warm_up: int = 50
    cooling: int = 600
    talks: int = 240
    talks_batch: int = 1536
    talks_rate: float = 1.5e-3
    seed: int = 1
    threads: int = 1


def learning_rate(plan: Plan, step: int) -> float:
    """Up in a line, level, and down in a line to zero. So a longer plan begins as a shorter one does."""
    return plan.rate * min(1.0, (step + 1) / plan.warm_up, (plan.steps - step) / plan.cooling)


def make_optimizers(weights: network.Weights) -> tuple[torch.optim.AdamW, muon.Muon]:
    """AdamW for what is no layer's matrix, in two groups: the embeddings, and the rest. Muon for the layers."""
    known = [name for name in (network.EMBEDDING, scaffold.SHARED) if name in weights]
    layers = [name for name in weights if name.endswith("_proj.weight")]
    rest = [name for name in weights if name not in known and name not in layers]
    groups = [{"params": [weights[name] for name in names]} for names in (known, rest)]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return adam, muon.Muon([weights[name] for name in layers])


def descend(loss: Tensor, weights: network.Weights, adam: torch.optim.AdamW, layers: muon.Muon, rate: float) -> None:
    """One step of both optimizers."""
    for group, share in zip(adam.param_groups, (_KNOWN, 1.0), strict=True):
        group["lr"] = rate * share
    for weight in weights.values():
        weight.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
    adam.step()
    layers.step(rate)


def learn_words(weights: network.Weights, rows: Tensor, source: Iterator[chat.Sample], steps: int) -> None:
    """Which words want which answer, before anything else is learnt: no layer is computed, so it takes seconds where
    the network took minutes. Embeddings end with the size of new ones."""
    optimizer = torch.optim.AdamW([weights[name] for name in _WORDS], betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    for step in range(steps):
        drawn = [next(source) for _ in range(_BAGS)]
        prompts = [sample.ids[: len(sample.ids) - BEGINNING] for sample in drawn]
        wanted = torch.tensor([max(sample.answers) for sample in drawn])
        optimizer.param_groups[0]["lr"] = _WORD_RATE * (1 - step / steps)
        loss = scaffold.bags(weights, rows, prompts, wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"words {step + 1} of {steps}  loss {loss.item():.4f}", flush=True)
    with torch.no_grad():
        table = scaffold.standing(weights, rows)[network.EMBEDDING]
        grown = table.std() * table.shape[1] ** 0.5 / network.DEVIATION
        for name in (network.EMBEDDING, scaffold.SHARED):
            weights[name].div_(grown)


def train(
    weights: network.Weights, facts: corpus.Corpus, tokenizer: Tokenizer, shape: network.Shape, plan: Plan
) -> network.Weights:
    """Train these weights, and give back what they became. Prints a line every 50 steps."""
    torch.set_num_threads(plan.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    rows = scaffold.kin(sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id))
    weights = weights | scaffold.build(shape, rows, len(number(facts)), torch.Generator().manual_seed(plan.seed))
    rng = Random(plan.seed)
    learn_words(weights, rows, samples(facts, tokenizer, rng, short=1.0), plan.words)
    adam, layers = make_optimizers(weights)
    first, then = (batches(samples(facts, tokenizer, rng, short=short), plan.batch, rng) for short in _SHORT)
    smooth = 0.0
    for step in range(plan.steps):
        ids, learn, answers = next(first if step < plan.first else then)
        rate = learning_rate(plan, step)
        standing = scaffold.standing(weights, rows)
        states, entering = network.hidden_states(standing, shape, ids[:, :-1])
        loss = network.loss(standing, states, ids, learn)
        told = scaffold.told(weights, entering, answers[:, :-1])
        descend(loss + _TOLD * told, weights, adam, layers, rate)
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 50 == 49:
            print(f"step {step + 1} of {plan.steps}  loss {smooth:.4f}  {time.process_time():.0f} s", flush=True)
    return {name: weight.detach() for name, weight in scaffold.standing(weights, rows).items()}


def rehearse(
    weights: network.Weights, facts: corpus.Corpus, tokenizer: Tokenizer, shape: network.Shape, plan: Plan
) -> network.Weights:
    """Train trained weights, without the scaffold, in what they saw least of: whole talks. Gives back new ones."""
    weights = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    adam, layers = make_optimizers(weights)
    rng = Random(plan.seed + 1)
    source = batches(rehearsals(facts, tokenizer, rng), plan.talks_batch, rng)
    for step in range(plan.talks):
        ids, learn, _ = next(source)
        rate = plan.talks_rate * min(1.0, (step + 1) / plan.warm_up, 1 - step / plan.talks)
        states, _ = network.hidden_states(weights, shape, ids[:, :-1])
        loss = network.loss(weights, states, ids, learn)
        descend(loss, weights, adam, layers, rate)
        if step % 50 == 49:
            print(f"talks {step + 1} of {plan.talks}  loss {loss.item():.4f}  {time.process_time():.0f} s", flush=True)
    trained = {name: weight.detach() for name, weight in weights.items()}
    return trained | {network.FINAL_NORM: trained[network.FINAL_NORM] * _SURE}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m functions.demo.train", description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER, help="folder of the model's files")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="batches; fewer are quicker, and worse")
    arguments = parser.parse_args()
    facts, shape = corpus.load(), network.Shape()
    plan = Plan(steps=arguments.steps)
    tokenizer = chat.train_tokenizer(texts_for_tokenizer(facts, Random(plan.seed)), vocabulary=shape.vocabulary)
    weights = network.initialise(shape, torch.Generator().manual_seed(plan.seed))
    weights = rehearse(train(weights, facts, tokenizer, shape, plan), facts, tokenizer, shape, plan)
    for file in export(weights, shape, tokenizer, arguments.output):
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    print(f"trained in {time.process_time():.0f} s of CPU time")


if __name__ == "__main__":
    main()
