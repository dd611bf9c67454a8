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
    """The defaults have 2.9 million weights."""

    vocabulary: int = 3000
    hidden: int = 192
    layers: int = 4
    heads: int = 3
    feed_forward: int = 512
    context: int = 4096
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.hidden // self.heads


EMBEDDING: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
FINAL_NORM: Final = "model.norm.weight"
DEVIATION: Final = 0.8
"""Of a new weight, times the root of the hidden size."""


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Each matrix of one layer: its name and (output, input) sizes."""
    square = (shape.hidden, shape.hidden)
    wide = (shape.feed_forward, shape.hidden)
    attention = {f"self_attn.{name}_proj.weight": square for name in "qkvo"}
    return {**attention, "mlp.gate_proj.weight": wide, "mlp.up_proj.weight": wide, "mlp.down_proj.weight": wide[::-1]}


def initialise(shape: Shape, generator: torch.Generator) -> Weights:
    """Normal, of a deviation for narrow networks (the usual 0.02 begins to learn twice as late), but for what adds to
    the residual stream, which is zero. So it begins as what is easiest to learn from, a bag of words: the first
    layer's attention looks at all tokens alike and adds their mean, and nothing else adds anything."""

    deviation = DEVIATION * shape.hidden**-0.5

    def normal(size: tuple[int, int]) -> Tensor:
        return torch.randn(size, generator=generator) * deviation

    table = (shape.vocabulary, shape.hidden)
    weights = {EMBEDDING: normal(table), HEAD: normal(table), FINAL_NORM: torch.ones(shape.hidden)}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for name in ("input_layernorm.weight", "post_attention_layernorm.weight"):
            weights[prefix + name] = torch.ones(shape.hidden)
        for name, size in matrices(shape).items():
            adds = name.startswith(("self_attn.o", "mlp.down"))
            weights[prefix + name] = torch.zeros(size) if adds else normal(size)
    query, value, output = (f"model.layers.0.self_attn.{name}_proj.weight" for name in "qvo")
    weights[query].zero_()
    weights[value] = torch.linalg.qr(weights[value])[0].contiguous()
    weights[output] = weights[value].T.clone(memory_format=torch.contiguous_format)
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def rotation(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary position embedding: (length, head) each, the sines with the rotation's sign."""
    frequencies = shape.rope_base ** -(torch.arange(0, shape.head, 2).float() / shape.head)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    return angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)


def hidden_states(weights: Weights, shape: Shape, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, length) token ids to (batch, length, hidden) final states, and those that enter the last layer."""
    batch, length = ids.shape
    cos, sin = rotation(shape, length)
    stream = entering = functional.embedding(ids, weights[EMBEDDING])

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, (shape.hidden,), weights[name], shape.epsilon)

    def heads(x: Tensor) -> Tensor:
        return x.view(batch, length, shape.heads, shape.head).transpose(1, 2)

    def rotate(x: Tensor) -> Tensor:
        return torch.addcmul(x * cos, x.roll(shape.head // 2, dims=-1), sin)

    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        entering = stream

        def linear(x: Tensor, name: str, prefix: str = prefix) -> Tensor:
            return functional.linear(x, weights[f"{prefix}{name}_proj.weight"])

        normal = norm(stream, prefix + "input_layernorm.weight")
        query, key, value = (heads(linear(normal, f"self_attn.{name}")) for name in "qkv")
        seen = functional.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        stream = stream + linear(seen.transpose(1, 2).reshape(batch, length, shape.hidden), "self_attn.o")
        normal = norm(stream, prefix + "post_attention_layernorm.weight")
        gated = functional.silu(linear(normal, "mlp.gate")) * linear(normal, "mlp.up")
        stream = stream + linear(gated, "mlp.down")
    return norm(stream, FINAL_NORM), entering


def loss(weights: Weights, states: Tensor, ids: Tensor, learn: Tensor) -> Tensor:
    """Mean cross entropy of the next token, by the weights in `learn`: what weighs nothing is not computed."""
    weight = learn[:, 1:]
    wanted = weight > 0
    logits = functional.linear(states[wanted], weights[HEAD])
    losses = functional.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    return (losses * weight[wanted]).sum() / weight.sum()
