"""What the demo model answers: `python -m functions.demo.evaluate [GGUF]`, with llama.cpp, as the service runs it.

Prints the share of right answers to trained phrasings, to phrasings held out of training, and in longer talks, and
every wrong answer. An answer is right when it is the topic's, word for word.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from functions.demo import GGUF, corpus
from functions.engines.base import Address
from functions.engines.llamacpp import LlamaCppEngine
from infra.settings import Model

SEED: Final = 20_000
"""Not the training's: the phrasings are drawn from the same grammar, but not the same ones."""


@dataclass(frozen=True, kw_only=True)
class Case:
    kind: str
    messages: tuple[corpus.Message, ...]
    expected: str


def cases(facts: corpus.Corpus, rng: Random) -> list[Case]:
    """Three trained phrasings of every topic, with and without the default system prompt; the held-out ones; talks."""
    found = []
    system = corpus.Message("system", corpus.DEFAULT_SYSTEM_PROMPT)
    for topic in facts.topics:
        for number in range(3):
            question = corpus.Message("user", corpus.ask(facts, topic, rng))
            messages: tuple[corpus.Message, ...] = (system, question) if number % 2 else (question,)
            found.append(Case(kind="trained", messages=messages, expected=topic.answer))
        for held_out in topic.held_out:
            question = corpus.Message("user", facts.expand(held_out, rng) + "?")
            kind = "unknown" if topic.file == "refusals" else "held out"
            found.append(Case(kind=kind, messages=(question,), expected=topic.answer))
    for _ in range(40):
        messages = tuple(corpus.draw_conversation(facts, rng))
        if len(messages) > 3:
            found.append(Case(kind="talks", messages=messages[:-1], expected=messages[-1].content))
    return found


def answer(engine: LlamaCppEngine, messages: tuple[corpus.Message, ...], *, temperature: float = 0.0) -> str:
    """What the model says; `…` at its end when it had to be cut off."""
    body = {
        "messages": [message._asdict() for message in messages],
        "max_tokens": 160,
        "temperature": temperature,
    }
    request = urllib.request.Request(  # noqa: S310 - http, ours
        f"{engine.address.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        choice = json.load(response)["choices"][0]
    return str(choice["message"]["content"]) + ("" if choice["finish_reason"] == "stop" else "…")


def start(file: Path) -> LlamaCppEngine:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address(host="127.0.0.1", port=probe.getsockname()[1])
    model = Model(id="demo", name="demo", context_length=2048)
    engine = LlamaCppEngine(model, source=str(file), address=address, api_key=None, max_requests=2)
    engine.start()
    return engine


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else GGUF
    asked = cases(corpus.load(), Random(SEED))
    engine = start(file)
    right: dict[str, list[bool]] = {}
    try:
        for case in asked:
            said = answer(engine, case.messages)
            right.setdefault(case.kind, []).append(said == case.expected)
            if said != case.expected:
                print(f"{case.kind}: {case.messages[-1].content!r}\n    {said}")
    finally:
        engine.stop()
    for kind, results in right.items():
        print(f"{kind}: {sum(results)} of {len(results)}")


if __name__ == "__main__":
    main()
