"""What helps the training and is not shipped: words that are alike learn together, and the answer is told early.

`Diploma`, `diploma` and ` diplomas` are different tokens, of which a corpus this small shows some rarely. In training
a token's embedding is the sum of its own and of those that it shares with its kin; the sums are what is shipped.

Which answer a question wants is told to the network before its last layer, at the token where the answer begins: one
classification there teaches more than the answer's first words do, which many answers share.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from functions.demo import network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SHARED: Final = "scaffold.shared"
ANSWERS: Final = "scaffold.answers"

_ENDING: Final = re.compile(r"(?:ing|ed|es|s|e|er|able|ation)$")
_SHORTEST_STEM: Final = 3


def kin(tokens: Sequence[str]) -> Tensor:
    """(tokens, 2): for each token the row that it shares with those of the same letters, and that with those of the
    same stem. A token that begins no word has rows of its own."""
    rows: dict[str, int] = {}
    found = []
    for token in tokens:
        letters = token.removeprefix("Ġ").lower()
        names = (f"letters {letters}", f"stem {_stem(letters)}")
        found.append([rows.setdefault(name, len(rows)) for name in names])
    return torch.tensor(found)


def _stem(letters: str) -> str:
    stem = _ENDING.sub("", letters)
    return stem if len(stem) >= _SHORTEST_STEM else letters


def build(shape: network.Shape, rows: Tensor, answers: int, generator: torch.Generator) -> network.Weights:
    """The scaffold's own weights: shared embeddings, and a row for each answer."""
    deviation = network.DEVIATION * shape.hidden**-0.5
    shared = torch.randn((int(rows.max()) + 1, shape.hidden), generator=generator) * deviation
    return {
        SHARED: shared.requires_grad_(),
        ANSWERS: torch.zeros((answers, shape.hidden)).requires_grad_(),
    }


def standing(weights: network.Weights, rows: Tensor) -> network.Weights:
    """The network's weights with the embeddings that it has now."""
    table = weights[network.EMBEDDING] + weights[SHARED][rows].sum(dim=1)
    return {name: weight for name, weight in weights.items() if name not in (SHARED, ANSWERS)} | {
        network.EMBEDDING: table
    }


def told(weights: network.Weights, states: Tensor, answers: Tensor) -> Tensor:
    """Mean cross entropy of the answers that begin: `states` are those before the last layer, `answers` is -1 where
    none begins."""
    begins = answers >= 0
    inner = functional.rms_norm(states[begins], (states.shape[-1],))
    return functional.cross_entropy(functional.linear(inner, weights[ANSWERS]), answers[begins])


def bags(weights: network.Weights, rows: Tensor, prompts: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
    """Mean cross entropy of the answers that `prompts` want, as `told` has it for a network that is as initialised: of
    the mean of their tokens, without a layer computed."""
    table = standing(weights, rows)[network.EMBEDDING]
    starts = torch.tensor([0, *(len(prompt) for prompt in prompts[:-1])]).cumsum(0)
    ids = torch.tensor([token for prompt in prompts for token in prompt])
    means = functional.embedding_bag(ids, functional.rms_norm(table, (table.shape[-1],)), starts, mode="mean")
    last = table[torch.tensor([prompt[-1] for prompt in prompts])]
    inner = functional.rms_norm(last + means, (means.shape[-1],))
    return functional.cross_entropy(functional.linear(inner, weights[ANSWERS]), answers)
