"""The corpus: facts with many phrasings, read from `facts/*.txt`, and how conversations are drawn from them.

A facts file holds topics. A topic is a `[name]`, trained phrasings (`Q:`), phrasings that are held out of training
(`H:`, for the evaluation), and one answer (`A:`). A phrasing is a grammar: `(a|b|)` is one of its alternatives, and
`{name}` is one of the phrases or words of that name. Everything random comes from the `Random` that is handed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FACTS: Final = Path(__file__).parent / "facts"
FILES: Final = ("self", "project", "running", "configuration", "refusals", "smalltalk")
DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful AI assistant."

_SYSTEM_PROMPTS: Final = (
    "You are a helpful assistant.",
    "You are a helpful AI assistant. Answer briefly.",
    "Answer the user's questions.",
    "You are a friendly bot.",
    "Be concise.",
    "You answer questions about software. Be short and precise, and say so when you do not know.",
    "You are an expert programmer.",
)
_LEADS: Final = (
    "please",
    "hey,",
    "hi,",
    "hello,",
    "ok,",
    "so",
    "and",
    "also,",
    "now,",
    "well,",
    "sorry,",
    "quick question:",
    "thanks,",
)
_ENDS: Final = ("?", "?", "?", "?", "", "", ".", "!", " please", ", please?", "??", " ?")
_PLAINEST: Final = 0.2
_CHOICE: Final = re.compile(r"\(([^()]*)\)")
_NAME: Final = re.compile(r"\{([a-z]+)\}")

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Topic:
    name: str
    file: str
    answer: str
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    topics: tuple[Topic, ...]
    phrases: dict[str, tuple[str, ...]] = field(repr=False)

    def expand(self, pattern: str, rng: Random) -> str:
        """One question that `pattern` stands for."""
        while match := _NAME.search(pattern):
            pattern = pattern[: match.start()] + _choose(self.phrases[match[1]], rng) + pattern[match.end() :]
        while match := _CHOICE.search(pattern):
            pattern = pattern[: match.start()] + _choose(match[1].split("|"), rng) + pattern[match.end() :]
        question = " ".join(pattern.split())
        return question[:1].upper() + question[1:]


def load(folder: Path = FACTS) -> Corpus:
    """Read the facts. Raises ValueError naming the file and topic of what is malformed."""
    phrases = {**_phrases(folder / "phrases.txt"), **_phrases(folder / "words.txt")}
    topics = tuple(topic for file in FILES for topic in _topics(folder / f"{file}.txt"))
    for topic in topics:
        for name in _NAME.findall(" ".join((*topic.trained, *topic.held_out))):
            if name not in phrases:
                raise ValueError(f"{topic.file}.txt [{topic.name}]: no phrases are named {name!r}")
    return Corpus(topics=topics, phrases=phrases)


def _choose(alternatives: Sequence[str], rng: Random) -> str:
    """One of them; the first, which is the plainest by custom, is the likeliest."""
    return alternatives[0] if rng.random() < _PLAINEST else rng.choice(alternatives)


def _phrases(file: Path) -> dict[str, tuple[str, ...]]:
    lines = (line.split(":", 1) for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return {name: tuple(phrase.strip() for phrase in rest.split("|")) for name, rest in lines}


def _topics(file: Path) -> list[Topic]:
    text = "\n".join(line for line in file.read_text("utf-8").splitlines() if not line.startswith("#"))
    topics = []
    for block in text.split("\n[")[1:]:
        name, _, rest = block.partition("]")
        lines: dict[str, list[str]] = {"Q": [], "H": [], "A": []}
        for line in rest.split("\n"):
            if line.strip():
                kind, separator, content = line.partition(": ")
                if not separator or kind not in lines:
                    raise ValueError(f"{file.name} [{name}]: expected `Q:`, `H:` or `A:`, got {line!r}")
                lines[kind].append(content.strip())
        if len(lines["A"]) != 1 or not lines["Q"]:
            raise ValueError(f"{file.name} [{name}]: a topic has one `A:` and at least one `Q:`")
        topics.append(
            Topic(
                name=name, file=file.stem, answer=lines["A"][0], trained=tuple(lines["Q"]), held_out=tuple(lines["H"])
            )
        )
    return topics


def ask(corpus: Corpus, topic: Topic, rng: Random) -> str:
    """A question about the topic, as people type: with or without a lead, capitals, a question mark, a slip."""
    question = corpus.expand(_choose(topic.trained, rng), rng)
    if topic.file != "smalltalk" and rng.random() < 0.15:
        question = f"{rng.choice(_LEADS)} {question[:1].lower()}{question[1:]}"
        question = question[:1].upper() + question[1:]
    question += rng.choice(_ENDS)
    if rng.random() < 0.25:
        question = question.lower() if rng.random() < 0.5 else question[:1].lower() + question[1:]
    if rng.random() < 0.02 and len(question) > 8:
        slip = rng.randrange(2, len(question) - 2)
        question = question[:slip] + question[slip + 1 :]
    return question


def draw_topic(corpus: Corpus, rng: Random) -> Topic:
    """Every fact is as likely as any other; courtesies come in more words, and what it does not know is the world."""
    weights = {"refusals": 12.0, "smalltalk": 2.0}
    return rng.choices(corpus.topics, [weights.get(topic.file, 1.0) for topic in corpus.topics])[0]


def draw_conversation(corpus: Corpus, rng: Random) -> list[Message]:
    """A conversation of one to seven questions with their answers, with or without a system prompt."""
    messages: list[Message] = []
    chance = rng.random()
    if chance < 0.35:
        messages.append(Message("system", DEFAULT_SYSTEM_PROMPT))
    elif chance < 0.5:
        messages.append(Message("system", rng.choice(_SYSTEM_PROMPTS)))
    turns = rng.choices((1, 2, 3, 4, 5, 7), (50, 22, 12, 8, 5, 3))[0]
    for _ in range(turns):
        topic = draw_topic(corpus, rng)
        messages += [Message("user", ask(corpus, topic, rng)), Message("assistant", topic.answer)]
    return messages
