"""What the demo model answers: `python -m functions.demo.evaluate`, with llama.cpp, as the service runs it.

Asks what no training has seen (see `cases.py`), greedily and as somebody asks who sets no temperature, and prints
how many answers are right word for word, how many nearly, what was refused rightly and wrongly, and the ten worst.
`--part validate` is for whoever tunes corpus or training: the test's questions are then still unseen.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import urllib.request
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.demo import GGUF, corpus
from functions.demo.cases import UNKNOWN, Case, cases
from functions.engines.base import Address
from functions.engines.llamacpp import LlamaCppEngine
from infra.settings import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 200
_NEAR: Final = 0.9
_WORST: Final = 10
_SEED: Final = 1


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was said to a case, `likeness` to what was expected (1 for the same words), and whether it is `near`: as
    good as the same, with the same code in it."""

    case: Case
    said: tuple[str, ...]

    @property
    def likeness(self) -> float:
        pairs = zip(self.said, self.case.expected, strict=True)
        return min(SequenceMatcher(None, said, expected, autojunk=False).ratio() for said, expected in pairs)

    @property
    def exact(self) -> bool:
        return self.said == self.case.expected

    @property
    def near(self) -> bool:
        same_code = [_code(said) for said in self.said] == [_code(expected) for expected in self.case.expected]
        return self.likeness >= _NEAR and same_code


def _code(text: str) -> list[str]:
    return re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL)


def answer(
    engine: LlamaCppEngine, messages: Sequence[corpus.Message], *, temperature: float | None = 0.0, seed: int = _SEED
) -> str:
    """What the model says; `…` at its end when it had to be cut off. Without a temperature it is the engine's own."""
    body = {"messages": [message._asdict() for message in messages], "max_tokens": _LONGEST, "seed": seed}
    if temperature is not None:
        body["temperature"] = temperature
    request = urllib.request.Request(  # noqa: S310 - http, ours
        f"{engine.address.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        choice = json.load(response)["choices"][0]
    return str(choice["message"]["content"]) + ("" if choice["finish_reason"] == "stop" else "…")


def talk(engine: LlamaCppEngine, case: Case, *, temperature: float | None) -> Result:
    """Ask the questions of a case one after the other, each with what was really said before it."""
    messages = list(case.before)
    said = []
    for question in case.questions:
        messages.append(corpus.Message("user", question))
        said.append(answer(engine, messages, temperature=temperature))
        messages.append(corpus.Message("assistant", said[-1]))
    return Result(case=case, said=tuple(said))


def start(file: Path) -> LlamaCppEngine:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address(host="127.0.0.1", port=probe.getsockname()[1])
    model = Model(id="demo", name="demo", context_length=2048)
    engine = LlamaCppEngine(model, source=str(file), address=address, api_key=None, max_requests=2)
    engine.start()
    return engine


def report(results: Sequence[Result], refusal: str) -> str:
    """A line for each kind of question, and the refusals."""
    lines = []
    for kind in dict.fromkeys(result.case.kind for result in results):
        told = [result for result in results if result.case.kind == kind]
        exact, near = sum(result.exact for result in told), sum(result.near for result in told)
        lines.append(f"{kind:>12}: {exact} of {len(told)} exact ({exact / len(told):.0%}), {near} near or exact")
    pairs = [pair for result in results for pair in zip(result.said, result.case.expected, strict=True)]
    unknown = [said == refusal for said, expected in pairs if expected == refusal]
    known = [said == refusal for said, expected in pairs if expected != refusal]
    lines.append(f"    refusals: {sum(unknown)} of {len(unknown)} rightly, {sum(known)} of {len(known)} wrongly")
    return "\n".join(lines)


def worst(results: Sequence[Result], count: int) -> str:
    found = sorted((result for result in results if not result.exact), key=lambda result: result.likeness)[:count]
    return "\n".join(
        f"  {result.likeness:.2f} [{result.case.kind}] {' / '.join(result.case.questions)}\n"
        f"       said:     {' / '.join(result.said)}\n       expected: {' / '.join(result.case.expected)}"
        for result in found
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m functions.demo.evaluate", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=GGUF, help="a GGUF file")
    parser.add_argument(
        "--part", choices=("validate", "test"), default="test", help="what was kept out of training for"
    )
    parser.add_argument("--worst", type=int, default=_WORST, help="how many of the worst answers are shown")
    arguments = parser.parse_args()
    facts = corpus.load()
    asked = cases(facts, arguments.part)
    engine = start(arguments.file)
    try:
        for name, temperature in (("greedy", 0.0), ("at the engine's own temperature", None)):
            results = [talk(engine, case, temperature=temperature) for case in asked]
            print(f"{name}:\n{report(results, facts.by_name[UNKNOWN].answer)}")
            if temperature is not None:
                print(f"worst:\n{worst(results, arguments.worst)}")
    finally:
        engine.stop()


if __name__ == "__main__":
    main()
