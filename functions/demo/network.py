"""The network: a small llama, as functions over named tensors (the names are those of its safetensors file)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The defaults have 5.9 million weights. The output layer shares the embedding's."""

    vocabulary: int = 3000
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 768
    context: int = 4096
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.hidden // self.heads


EMBEDDING: Final = "model.embed_tokens.weight"
FINAL_NORM: Final = "model.norm.weight"


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Each matrix of one layer: its name and (output, input) sizes."""
    square = (shape.hidden, shape.hidden)
    wide = (shape.feed_forward, shape.hidden)
    attention = {f"self_attn.{name}_proj.weight": square for name in "qkvo"}
    return {**attention, "mlp.gate_proj.weight": wide, "mlp.up_proj.weight": wide, "mlp.down_proj.weight": wide[::-1]}


def initialise(shape: Shape, generator: torch.Generator) -> Weights:
    """Normal; what adds to the residual stream is smaller, the deeper the network.

    The usual deviation of 0.02 is for wide networks: this one then needs twice as many steps to begin learning.
    """

    deviation = 0.8 * shape.hidden**-0.5

    def normal(size: tuple[int, int], deviation: float) -> Tensor:
        return torch.randn(size, generator=generator) * deviation

    weights = {EMBEDDING: normal((shape.vocabulary, shape.hidden), deviation), FINAL_NORM: torch.ones(shape.hidden)}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for name in ("input_layernorm.weight", "post_attention_layernorm.weight"):
            weights[prefix + name] = torch.ones(shape.hidden)
        for name, size in matrices(shape).items():
            residual = name.startswith(("self_attn.o", "mlp.down"))
            weights[prefix + name] = normal(size, deviation / (2 * shape.layers) ** 0.5 if residual else deviation)
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def rotation(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary position embedding: (length, head) each, the sines with the rotation's sign."""
    frequencies = shape.rope_base ** -(torch.arange(0, shape.head, 2).float() / shape.head)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    return angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)


def hidden_states(weights: Weights, shape: Shape, ids: Tensor) -> Tensor:
    """(batch, length) token ids to (batch, length, hidden) final states."""
    batch, length = ids.shape
    cos, sin = rotation(shape, length)
    stream = functional.embedding(ids, weights[EMBEDDING])

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, (shape.hidden,), weights[name], shape.epsilon)

    def heads(x: Tensor) -> Tensor:
        return x.view(batch, length, shape.heads, shape.head).transpose(1, 2)

    def rotate(x: Tensor) -> Tensor:
        return torch.addcmul(x * cos, x.roll(shape.head // 2, dims=-1), sin)

    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."

        def linear(x: Tensor, name: str, prefix: str = prefix) -> Tensor:
            return functional.linear(x, weights[f"{prefix}{name}_proj.weight"])

        normal = norm(stream, prefix + "input_layernorm.weight")
        query, key, value = (heads(linear(normal, f"self_attn.{name}")) for name in "qkv")
        seen = functional.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        stream = stream + linear(seen.transpose(1, 2).reshape(batch, length, shape.hidden), "self_attn.o")
        normal = norm(stream, prefix + "post_attention_layernorm.weight")
        gated = functional.silu(linear(normal, "mlp.gate")) * linear(normal, "mlp.up")
        stream = stream + linear(gated, "mlp.down")
    return norm(stream, FINAL_NORM)


def loss(weights: Weights, shape: Shape, ids: Tensor, learn: Tensor) -> Tensor:
    """Mean cross entropy of the next token, by the weights in `learn`: what weighs nothing is not computed."""
    weight = learn[:, 1:]
    wanted = weight > 0
    states = hidden_states(weights, shape, ids[:, :-1])[wanted]
    logits = functional.linear(states, weights[EMBEDDING]).float()
    losses = functional.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    return (losses * weight[wanted]).sum() / weight.sum()
