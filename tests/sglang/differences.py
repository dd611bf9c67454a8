"""Where llama.cpp and SGLang differ for who calls or runs the service: what the suite expects of each, and the table in
docs/engines.md.

A test that meets a difference asks `expected` for the engine that it runs with, and fails where the engine does
otherwise, better too: then the entry goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.settings import EngineKind


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`what` completes a row of the table; `values`: engine -> (what tests expect, how the table says it)."""

    what: str
    values: dict[EngineKind, tuple[Any, str]]


DIFFERENCES: dict[str, Difference] = {
    "boot": Difference(
        what="The phases of a boot that its log tells apart",
        values={
            "llamacpp": (["import", "weights", "ready"], "import, weights (with the warm-up)"),
            "sglang": (["import", "weights", "warm_up", "ready"], "import, weights, warm-up"),
        },
    ),
    "schema of itself": Difference(
        what='A `response_format` whose schema is `{"$ref": "#"}`',
        values={"llamacpp": (None, "400, `param` is `response_format`"), "sglang": ("", "an empty answer")},
    ),
    "unknown token": Difference(
        what="`/detokenize` of an id beyond the vocabulary",
        values={"llamacpp": (None, "400, `param` is `tokens`"), "sglang": ("", "the id is left out")},
    ),
    "no room": Difference(
        what="`max_tokens` for which the prompt leaves no room in the context",
        values={
            "llamacpp": ("length", "the answer ends where the context does, `length`"),
            "sglang": ("refused", "400, `code` is `context_length_exceeded`"),
        },
    ),
    "seed": Difference(
        what="A `seed` makes an answer repeat itself",
        values={
            "llamacpp": (True, "yes"),
            "sglang": (False, "only with `--enable-deterministic-inference`"),
        },
    ),
    "penalty above two": Difference(
        what="A `repetition_penalty` above 2",
        values={"llamacpp": ("taken", "taken as it is"), "sglang": ("refused", "400")},
    ),
    "queue": Difference(
        what="Who keeps the requests that find every place taken",
        values={
            "llamacpp": ("service", "the service: llama.cpp is given no more than it has slots"),
            "sglang": ("engine", "SGLang, where `--max-running-requests` is below what the service sends it"),
        },
    ),
    "metrics": Difference(
        what="Metrics of its own",
        values={
            "llamacpp": ("llamacpp:", "`/metrics`, names with `llamacpp:`"),
            "sglang": ("sglang:", "`/metrics`, names with `sglang:`"),
        },
    ),
}


def expected(name: str, engine: EngineKind) -> Any:
    """What tests expect of this engine where the two differ."""
    return DIFFERENCES[name].values[engine][0]


def table() -> str:
    """The table in docs/engines.md."""
    rows = [
        f"| {each.what} | {each.values['llamacpp'][1]} | {each.values['sglang'][1]} |" for each in DIFFERENCES.values()
    ]
    return "\n".join(["| | llama.cpp | SGLang |", "|---|---|---|", *rows]) + "\n"
