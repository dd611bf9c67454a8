"""Conversations drawn from the corpus: one question or several, second turns among them, with or without a system
prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.demo.corpus import DEFAULT_SYSTEM_PROMPT, Message
from functions.demo.wording import ask

if TYPE_CHECKING:
    from random import Random

    from functions.demo.corpus import Corpus, Topic

_SYSTEM_PROMPTS: Final = (
    "You are a helpful assistant.",
    "You are a helpful AI assistant. Answer briefly.",
    "Answer the user's questions.",
    "You are a friendly bot.",
    "Be concise.",
    "You answer questions about software. Be short and precise, and say so when you do not know.",
    "You are an expert programmer.",
)
_SECOND: Final = 0.55
_REFUSED: Final = 0.22
_COURTESY: Final = 0.12
_TURNS: Final = (74, 22, 2, 1, 1)
"""How many talks in a hundred have 1, 2, 3, 5 and 8 turns."""


def draw_topic(corpus: Corpus, rng: Random) -> Topic:
    """Every fact is as likely as any other; courtesies come in more words, and what it does not know is the world."""
    chance = rng.random()
    if chance < _REFUSED:
        return corpus.by_name["unknown"]
    wanted = chance < _REFUSED + _COURTESY
    return rng.choice([topic for topic in corpus.firsts if (topic.file == "smalltalk") == wanted])


def draw_next(corpus: Corpus, before: Topic | None, rng: Random) -> Topic:
    """A second turn where there is one, or something else."""
    seconds = corpus.seconds.get(before.name, ()) if before else ()
    return rng.choice(seconds) if seconds and rng.random() < _SECOND else draw_topic(corpus, rng)


def draw_system(rng: Random) -> list[Message]:
    chance = rng.random()
    if chance < 0.25:
        return [Message("system", DEFAULT_SYSTEM_PROMPT)]
    return [Message("system", rng.choice(_SYSTEM_PROMPTS))] if chance < 0.31 else []


def draw_conversation(corpus: Corpus, rng: Random, *, turns: int) -> list[Message]:
    """A conversation of so many questions with their answers. Half of those of two begin so that a second turn fits."""
    messages = draw_system(rng)
    topic: Topic | None = None
    for turn in range(turns):
        if turn == 0 and turns > 1 and rng.random() < 0.6:
            topic = corpus.by_name[rng.choice(sorted(corpus.seconds))]
            if topic.after:
                topic = draw_topic(corpus, rng)
        else:
            topic = draw_next(corpus, topic, rng)
        question = ask(corpus, topic, rng)
        messages += [Message("user", question), Message("assistant", topic.answer)]
    return messages


def draw_turns(rng: Random) -> int:
    return rng.choices((1, 2, 3, 5, 8), _TURNS)[0]
