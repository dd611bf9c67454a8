"""The corpus: facts with many phrasings, read from `facts/*.txt`.

A facts file holds topics. A topic is a `[name]`, phrasings (`Q:`), wordings that are never trained, for the evaluation
(`H:`), and one answer (`A:`, whose further lines are indented by two spaces; `A: @other` is the answer of another
topic). `[name after one other]` is a second turn: what is asked when one of those topics was answered just before. A
phrasing is a grammar: `(a|b|)` is one of its alternatives, and `{name}` is one of the phrases or words of that name;
`{nonsense}` is a word that there is not, `{borrowed}` a question of a fact's shape about something else.
Everything random comes from the `Random` that is handed in.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from functions.demo.borrowed import borrowed as borrow
from functions.demo.borrowed import foreign

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FACTS: Final = Path(__file__).parent / "facts"
WORDS: Final = ("phrases", "words")
UNRELATED: Final = "unrelated"
DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful AI assistant."

_SPLIT_SEED: Final = 11
_PLAINEST: Final = 0.15
_TRIES: Final = 1000
_SHORT: Final = 2
_CHOICE: Final = re.compile(r"\(([^()]*)\)")
_NAME: Final = re.compile(r"\{([a-z]+)\}")
_HEAD: Final = re.compile(r"\[([a-z0-9-]+)(?: after ([a-z0-9 -]+))?\]")
_NONSENSE: Final = "nonsense"
_BORROWED: Final = "borrowed"
_WORLD: Final = "any"
_COURTESIES: Final = "smalltalk"

Role = Literal["system", "user", "assistant"]
Part = Literal["train", "validate", "test"]


class Message(NamedTuple):
    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Topic:
    name: str
    file: str
    answer: str
    phrasings: tuple[str, ...]
    wordings: tuple[str, ...]
    after: tuple[str, ...] = ()
    plain: frozenset[str] = frozenset()
    """Each line's plainest phrasing: the first of all alternatives."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    topics: tuple[Topic, ...]
    phrases: dict[str, tuple[str, ...]] = field(repr=False)
    unrelated: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def by_name(self) -> dict[str, Topic]:
        return {topic.name: topic for topic in self.topics}

    @cached_property
    def firsts(self) -> tuple[Topic, ...]:
        """What can be asked without anything before it."""
        return tuple(topic for topic in self.topics if not topic.after)

    @cached_property
    def seconds(self) -> dict[str, tuple[Topic, ...]]:
        """Topic -> what may be asked once it was answered."""
        found: dict[str, list[Topic]] = {}
        for topic in self.topics:
            for name in topic.after:
                found.setdefault(name, []).append(topic)
        return {name: tuple(topics) for name, topics in found.items()}

    def expand(self, pattern: str, rng: Random) -> str:
        """One question that `pattern` stands for."""
        while match := _NAME.search(pattern):
            pattern = pattern[: match.start()] + self._word(match[1], rng) + pattern[match.end() :]
        while match := _CHOICE.search(pattern):
            pattern = pattern[: match.start()] + choose(match[1].split("|"), rng) + pattern[match.end() :]
        question = " ".join(pattern.split())
        return question[:1].upper() + question[1:]

    def _word(self, name: str, rng: Random) -> str:
        if name == _NONSENSE:
            return nonsense(rng)
        return self._borrowed(rng) if name == _BORROWED else choose(self.phrases[name], rng)

    def _borrowed(self, rng: Random) -> str:
        """A question of a fact's shape about something else. Raises ValueError where no fact has a shape for it."""
        for _ in range(_TRIES):
            pattern = rng.choice(rng.choice(self._facts).phrasings)
            if question := borrow(self.expand(pattern, rng), self._foreign, rng):
                return question
        raise ValueError(f"no fact has a phrasing whose words could be exchanged for `{{{_BORROWED}}}`")

    @cached_property
    def _facts(self) -> tuple[Topic, ...]:
        """The topics about the project: courtesies and refusals have no shape of its own."""
        return tuple(t for t in self.firsts if t.file != _COURTESIES and not any(_BORROWED in p for p in t.phrasings))

    @cached_property
    def _foreign(self) -> tuple[str, ...]:
        """Words of the world that the project has no use for."""
        names = [name for text in self.phrases[_WORLD] for name in _NAME.findall(text)]
        patterns = [pattern for topic in self._facts for pattern in topic.phrasings]
        phrases = [text for pattern in patterns for name in _NAME.findall(pattern) for text in self.phrases[name]]
        return foreign([text for name in names for text in self.phrases[name]], [*patterns, *phrases])

    def phrase(self, topic: Topic, rng: Random, part: Part = "train") -> str:
        """A phrasing of the topic that is in `part`. Raises ValueError where there is none."""
        for _ in range(_TRIES):
            question = self.expand(rng.choice(topic.phrasings), rng)
            if part_of(topic, question) == part:
                return question
        raise ValueError(f"{topic.file}.txt [{topic.name}]: no phrasing of it is in the part {part!r}")

    def hard(self, topic: Topic, part: Part) -> tuple[str, ...]:
        """The wordings that are in `part`: half of them validate, half of them test, none trains."""
        return tuple(text for text in topic.wordings if ("validate", "test")[_digest(topic, text) % 2] == part)


def part_of(topic: Topic, question: str) -> Part:
    """A third of all phrasings is for the test, one in fifteen for tuning; the seed and the question itself decide.
    Trained are those of one or two words (nobody can know a greeting that was never heard) and the plainest of each
    line, which is what most people ask."""
    if len(question.split()) <= _SHORT or question in topic.plain:
        return "train"
    place = _digest(topic, question) % 30
    return "test" if place < 10 else "validate" if place < 12 else "train"


def _digest(topic: Topic, question: str) -> int:
    text = f"{_SPLIT_SEED}/{topic.name}/{question.lower()}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def choose(alternatives: Sequence[str], rng: Random) -> str:
    """One of them; the first, which is the plainest by custom, is the likeliest."""
    return alternatives[0] if rng.random() < _PLAINEST else rng.choice(alternatives)


def nonsense(rng: Random) -> str:
    """A word that there is not."""
    syllables = rng.choices((1, 2, 3), (2, 5, 3))[0]
    word = "".join(
        rng.choice(
            ("b", "bl", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pr", "qu", "r")
        )
        + rng.choice("aeiouy")
        + rng.choice(("", "", "n", "r", "s", "t", "x", "ck", "mp", "ng", "sh", "zz"))
        for _ in range(syllables)
    )
    return word.capitalize() if rng.random() < 0.2 else word


def load(folder: Path = FACTS) -> Corpus:
    """Read the facts. Raises ValueError naming the file and topic of what is malformed."""
    phrases: dict[str, tuple[str, ...]] = {}
    for name in WORDS:
        phrases |= _phrases(folder / f"{name}.txt")
    files = sorted(file for file in folder.glob("*.txt") if file.stem not in (*WORDS, UNRELATED))
    topics = [topic for file in files for topic in _topics(file)]
    unrelated = tuple(_lines(folder / f"{UNRELATED}.txt"))
    return Corpus(topics=_resolved(topics, phrases), phrases=phrases, unrelated=unrelated)


def _resolved(topics: Sequence[Topic], phrases: dict[str, tuple[str, ...]]) -> tuple[Topic, ...]:
    """With the answers that are those of other topics. Raises ValueError for names that are not there, or twice."""
    by_name = {topic.name: topic for topic in topics}
    found = []
    for topic in topics:
        place = f"{topic.file}.txt [{topic.name}]"
        if by_name[topic.name] is not topic:
            raise ValueError(f"{place}: there is another topic of this name, in {by_name[topic.name].file}.txt")
        for name in _NAME.findall(" ".join((*topic.phrasings, *topic.wordings))):
            if name not in phrases and name not in (_NONSENSE, _BORROWED):
                raise ValueError(f"{place}: no phrases are named {name!r}")
        named = (*topic.after, *([topic.answer[1:]] if topic.answer.startswith("@") else []))
        for name in named:
            if name not in by_name:
                raise ValueError(f"{place}: there is no topic {name!r}")
        answer = by_name[topic.answer[1:]].answer if topic.answer.startswith("@") else topic.answer
        plain = frozenset(_plainest(pattern, phrases) for pattern in topic.phrasings)
        found.append(replace(topic, answer=answer, plain=plain))
    return tuple(found)


def _plainest(pattern: str, phrases: dict[str, tuple[str, ...]]) -> str:
    while match := _NAME.search(pattern):
        word = "" if match[1] in (_NONSENSE, _BORROWED) else phrases[match[1]][0]
        pattern = pattern[: match.start()] + word + pattern[match.end() :]
    while match := _CHOICE.search(pattern):
        pattern = pattern[: match.start()] + match[1].split("|")[0] + pattern[match.end() :]
    question = " ".join(pattern.split())
    return question[:1].upper() + question[1:]


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]


def _phrases(file: Path) -> dict[str, tuple[str, ...]]:
    split = (line.split(":", 1) for line in _lines(file))
    return {name: tuple(phrase.strip() for phrase in rest.split("|")) for name, rest in split}


def _topics(file: Path) -> list[Topic]:
    text = "\n" + "\n".join(line for line in file.read_text("utf-8").splitlines() if not line.startswith("#"))
    return [_topic(file, f"[{block}") for block in text.split("\n[")[1:]]


def _topic(file: Path, block: str) -> Topic:
    head, *lines = block.split("\n")
    match = _HEAD.fullmatch(head.strip())
    if not match:
        raise ValueError(f"{file.name}: expected `[name]` or `[name after other]`, got {head!r}")
    found: dict[str, list[str]] = {"Q": [], "H": [], "A": []}
    kind = ""
    for line in lines:
        if kind == "A" and (line.startswith("  ") or not line):
            found["A"][-1] += "\n" + line[2:]
        elif line.strip():
            kind, separator, content = line.partition(": ")
            if not separator or kind not in found:
                raise ValueError(f"{file.name} [{match[1]}]: expected `Q:`, `H:` or `A:`, got {line!r}")
            found[kind].append(content.strip())
    if len(found["A"]) != 1 or not found["Q"]:
        raise ValueError(f"{file.name} [{match[1]}]: a topic has one `A:` and at least one `Q:`")
    return Topic(
        name=match[1], file=file.stem, answer=found["A"][0].strip(), phrasings=tuple(found["Q"]),
        wordings=tuple(found["H"]), after=tuple((match[2] or "").split()),
    )  # fmt: skip
