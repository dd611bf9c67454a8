"""What the evaluation asks, by a seed: phrasings and wordings that were never trained, what is unrelated, talks."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from functions.demo.corpus import DEFAULT_SYSTEM_PROMPT, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.demo.corpus import Corpus, Part, Topic

SEED: Final = 20_000
UNKNOWN: Final = "unknown"
_PHRASINGS: Final = 3
_TALKS: Final = 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """Questions that are asked one after the other, and the answers that are expected. What is in `before` was said."""

    kind: str
    questions: tuple[str, ...]
    expected: tuple[str, ...]
    before: tuple[Message, ...] = ()


def cases(facts: Corpus, part: Part) -> list[Case]:
    """All of a part: `phrasings` of the facts, `wordings` (the hand-written ones that no rule of the corpus gives),
    `unrelated` questions, and `talks` of two turns, half of whose second ones need the first."""
    rng = Random(SEED)
    return [
        *_phrasings(facts, part, rng),
        *_wordings(facts, part, rng),
        *_unrelated(facts, part, rng),
        *_talks(facts, part, rng),
    ]


def _phrasings(facts: Corpus, part: Part, rng: Random) -> Iterator[Case]:
    for topic in facts.topics:
        if topic.name != UNKNOWN:
            drawn = {_phrase(facts, topic, rng, part) for _ in range(_PHRASINGS)}
            for question in sorted(filter(None, drawn)):
                yield _single("phrasings", facts, topic, question, rng)


def _wordings(facts: Corpus, part: Part, rng: Random) -> Iterator[Case]:
    for topic in facts.topics:
        if topic.name != UNKNOWN:
            for question in facts.hard(topic, part):
                yield _single("wordings", facts, topic, question, rng)


def _unrelated(facts: Corpus, part: Part, rng: Random) -> Iterator[Case]:
    unknown = facts.by_name[UNKNOWN]
    for question in facts.unrelated if part == "test" else unknown.wordings:
        yield Case(kind="unrelated", questions=(question,), expected=(unknown.answer,), before=_system(rng))


def _talks(facts: Corpus, part: Part, rng: Random) -> Iterator[Case]:
    made = 0
    while made < _TALKS:
        first, second = rng.sample(facts.firsts, 2)
        if made % 2:
            second = rng.choice([topic for topic in facts.topics if topic.after])
            first = facts.by_name[rng.choice(second.after)]
        questions = (_phrase(facts, first, rng, part), _phrase(facts, second, rng, part))
        if not first.after and questions[0] and questions[1]:
            made += 1
            yield Case(
                kind="talks",
                questions=(questions[0], questions[1]),
                expected=(first.answer, second.answer),
                before=_system(rng),
            )


def _single(kind: str, facts: Corpus, topic: Topic, question: str, rng: Random) -> Case:
    before = _system(rng)
    if topic.after:
        first = facts.by_name[rng.choice(topic.after)]
        asked = facts.phrase(first, rng, "train") + "?"
        before = (*before, Message("user", asked), Message("assistant", first.answer))
    return Case(kind=kind, questions=(question + rng.choice(("?", "", "?")),), expected=(topic.answer,), before=before)


def _phrase(facts: Corpus, topic: Topic, rng: Random, part: Part) -> str | None:
    """A phrasing of the part; None where the topic is so small that it has none."""
    try:
        return facts.phrase(topic, rng, part)
    except ValueError:
        return None


def _system(rng: Random) -> tuple[Message, ...]:
    return (Message("system", DEFAULT_SYSTEM_PROMPT),) if rng.random() < 0.5 else ()
