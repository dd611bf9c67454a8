"""How people type: a phrasing with or without a lead, capitals, a question mark, small words, other words, a slip."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

    from functions.demo.corpus import Corpus, Topic

_LEADS: Final = (
    "please", "hey,", "hi,", "hello,", "ok,", "so", "and", "also,", "now,", "well,", "sorry,", "quick question:",
    "thanks,", "ok thanks,", "could you tell me:", "I was wondering:", "one more thing:", "question:", "tell me,",
    "next question:", "great,", "can you tell me,", "do you know:", "hmm,", "but", "then", "by the way,",
)  # fmt: skip
_BEFORE: Final = (
    "I am new here.", "I just cloned the repository.", "I have a question.", "Sorry to bother you.", "Hello!", "Hi.",
    "I read the README.", "I need some help.", "Thanks for the answer.", "I am a beginner.", "Another question.",
    "My boss wants to know:", "I did not find it in the docs.", "I am in a hurry.", "Let me ask something.",
)  # fmt: skip
_AFTER: Final = ("thanks", "please", "thank you", "exactly", "here", "then", "now", "for me", "again", "in short")
_ENDS: Final = ("?", "?", "?", "?", "", "", "", ".", "!", " please", "??", " ?")
_SMALL: Final = frozenset((
    "a", "an", "the", "do", "does", "did", "i", "you", "it", "is", "are", "to", "of", "for", "my", "me", "we", "one",
    "in", "with", "on", "this", "that", "can", "could", "there", "be", "must",
))  # fmt: skip
_OTHER_WORDS: Final = {
    "run": ("start", "launch", "execute"), "start": ("run", "launch", "begin"), "stop": ("end", "quit", "halt"),
    "show": ("display", "print"), "list": ("show", "see"), "make": ("create", "build"), "create": ("make",),
    "delete": ("remove", "drop", "erase"), "remove": ("delete",), "change": ("modify", "edit", "adjust", "alter"),
    "set": ("configure", "define"), "use": ("try", "employ", "work with"), "find": ("get", "see"), "get": ("obtain",),
    "add": ("include", "insert", "put in"), "big": ("large",), "large": ("big",), "long": ("much time",),
    "need": ("require",), "see": ("view", "look at"), "send": ("pass", "submit"), "test": ("check", "try out"),
    "install": ("set up",), "kept": ("stored", "saved", "held"), "where": ("in which place",), "error": ("failure",),
    "app": ("application", "program"), "machine": ("computer", "laptop", "box"), "model": ("LLM",),
    "models": ("LLMs",), "project": ("repo", "repository", "thing", "software"), "works": ("functions",),
    "explain": ("describe", "clarify"), "key": ("token",), "slow": ("sluggish",), "many": ("much",), "file": ("files",),
    "limit": ("cap", "bound"), "default": ("standard",), "answer": ("reply", "response"), "answers": ("replies",),
    "requests": ("calls",), "request": ("call",), "cost": ("price",), "data": ("information",), "why": ("how come",),
}  # fmt: skip


def ask(corpus: Corpus, topic: Topic, rng: Random) -> str:
    """A trained phrasing of the topic, as somebody may type it."""
    question = corpus.phrase(topic, rng)
    if topic.file != "smalltalk":
        question = _reworded(question, rng)
        question = _dressed(question, rng)
    question += rng.choice(_ENDS)
    if rng.random() < 0.35:
        question = question.lower() if rng.random() < 0.6 else question[:1].lower() + question[1:]
    if rng.random() < 0.02:
        question = question.upper()
    return _slip(question, rng) if rng.random() < 0.1 else question


def _reworded(question: str, rng: Random) -> str:
    """Other words for some, and small words left out: what is asked is told by the words that remain."""
    words = question.split()
    if rng.random() < 0.25:
        words = [
            rng.choice(_OTHER_WORDS[word.lower()]) if word.lower() in _OTHER_WORDS and rng.random() < 0.5 else word
            for word in words
        ]
    if len(words) > 3 and rng.random() < 0.25:
        share = rng.choice((0.3, 0.6, 1.0))
        kept = [word for word in words if word.lower() not in _SMALL or rng.random() > share]
        words = kept if len(kept) > 1 else words
    if len(words) > 3 and rng.random() < 0.04:
        rng.shuffle(words)
    return " ".join(words)


def _dressed(question: str, rng: Random) -> str:
    """A lead, a sentence before, a word behind."""
    chance = rng.random()
    lower = question[:1].lower() + question[1:] if not re.match(r"[A-Z]{2}|I\b", question) else question
    if chance < 0.12:
        lead = rng.choice(_LEADS)
        return f"{lead[:1].upper()}{lead[1:]} {lower}"
    if chance < 0.18:
        return f"{rng.choice(_BEFORE)} {question}"
    if chance < 0.24:
        return f"{question} {rng.choice(_AFTER)}"
    return question


def _slip(question: str, rng: Random) -> str:
    """One letter left out, doubled, or exchanged with the next one."""
    if len(question) < 8:
        return question
    place = rng.randrange(2, len(question) - 2)
    if not question[place : place + 2].isalpha():
        return question
    kind = rng.randrange(3)
    middle = ("", question[place] * 2, question[place + 1] + question[place])[kind]
    return question[:place] + middle + question[place + (2 if kind == 2 else 1) :]
