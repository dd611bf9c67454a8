"""Muon, the optimizer of the layers' matrices: steps whose directions are all equally large, after Keller Jordan.

What few examples teach is learnt in half the steps that AdamW takes. torch has it too, in bf16 and one matrix after the
other: CPUs without bf16 spend more on that than on the gradients. Here it is f32, with matrices of one shape together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_MOMENTUM: Final = 0.95
_ROUNDS: Final = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315
"""The coefficients of its Newton-Schulz iteration: singular values come near to 1 within five rounds."""
_LIKE_ADAM: Final = 0.2
"""The root mean square of an update of Adam's, by which one rate serves both."""


class Muon:
    """Steps for `matrices`, whose gradients are to be there. One with more rows than columns is turned for the step."""

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        shapes = sorted({_lying(matrix).shape for matrix in matrices})
        self._groups = [[matrix for matrix in matrices if _lying(matrix).shape == shape] for shape in shapes]
        self._momenta = [torch.zeros((len(group), *shape)) for group, shape in zip(self._groups, shapes, strict=True)]

    def step(self, rate: float) -> None:
        with torch.no_grad():
            for group, momentum in zip(self._groups, self._momenta, strict=True):
                gradients = torch.stack([_lying(matrix.grad) for matrix in group if matrix.grad is not None])
                momentum.lerp_(gradients, 1 - _MOMENTUM)
                update = orthogonal(gradients.lerp(momentum, _MOMENTUM))
                size = rate * _LIKE_ADAM * max(update.shape[1:]) ** 0.5
                for matrix, change in zip(group, update, strict=True):
                    _lying(matrix).sub_(change, alpha=size)


def orthogonal(matrices: Tensor) -> Tensor:
    """(count, rows, columns), columns not fewer than rows: the same singular vectors, singular values near 1."""
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x


def _lying(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
