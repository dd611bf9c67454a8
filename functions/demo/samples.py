"""What the demo model is trained on: the corpus' conversations, most of them cut to what they teach, as batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from functions.demo import chat, corpus, talks, wording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tokenizers import Tokenizer
    from torch import Tensor

BEGINNING: Final = 3
"""How many tokens of the answer a short sample has."""
_LONGEST: Final = 640
_POOL: Final = 512
_PLAIN_TEXT: Final = 0.04
_CUT: Final = 0.5
_HEARD: Final = 0.5
_TALKS: Final = (30, 40, 15, 10, 5)
_CUT_TALKS: Final = 0.2


def samples(facts: corpus.Corpus, tokenizer: Tokenizer, rng: Random, *, short: float) -> Iterator[chat.Sample]:
    """Conversations without end. `short` of them are single questions with the answer's first words; of the others one
    in 25 is plain text without roles, half of the last answers are cut, and half of those before them only heard."""
    answers = number(facts)
    while True:
        if rng.random() < short:
            topic = talks.draw_topic(facts, rng)
            question = corpus.Message("user", wording.ask(facts, topic, rng))
            messages = [question, corpus.Message("assistant", topic.answer)]
            yield chat.encode_conversation(tokenizer, messages, answers, cut=BEGINNING)
        elif rng.random() < _PLAIN_TEXT:
            topic = talks.draw_topic(facts, rng)
            yield chat.encode_completion(tokenizer, wording.ask(facts, topic, rng), topic.answer, answers)
        else:
            cut = rng.randrange(2, 7) if rng.random() < _CUT else None
            turns = talks.draw_turns(rng)
            heard = rng.randrange(4, 13) if turns > 2 or rng.random() < _HEARD else None
            messages = talks.draw_conversation(facts, rng, turns=turns)
            sample = chat.encode_conversation(tokenizer, messages, answers, cut=cut, heard=heard)
            if len(sample.ids) <= _LONGEST:
                yield sample


def rehearsals(facts: corpus.Corpus, tokenizer: Tokenizer, rng: Random) -> Iterator[chat.Sample]:
    """Talks without end, of more turns, with all answers whole and learnt; one last answer in five is cut."""
    answers = number(facts)
    while True:
        turns = rng.choices(range(1, 6), _TALKS)[0]
        cut = rng.randrange(2, 7) if rng.random() < _CUT_TALKS else None
        messages = talks.draw_conversation(facts, rng, turns=turns)
        yield chat.encode_conversation(tokenizer, messages, answers, cut=cut)


def number(facts: corpus.Corpus) -> dict[str, int]:
    """A number for each answer: several topics may have the same one."""
    return {answer: place for place, answer in enumerate(dict.fromkeys(topic.answer for topic in facts.topics))}


def batches(source: Iterator[chat.Sample], size: int, rng: Random) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Samples of like length together, padded at the end: at most `size` tokens each."""
    while True:
        pool = sorted((next(source) for _ in range(_POOL)), key=lambda sample: len(sample.ids))
        groups: list[list[chat.Sample]] = [[]]
        for sample in pool:
            if len(sample.ids) * (len(groups[-1]) + 1) > size:
                groups.append([])
            groups[-1].append(sample)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(sample.ids) for sample in group)
            ids = [sample.ids + [0] * (width - len(sample.ids)) for sample in group]
            learn = [sample.learn + [0.0] * (width - len(sample.learn)) for sample in group]
            answers = [sample.answers + [-1] * (width - len(sample.answers)) for sample in group]
            yield torch.tensor(ids), torch.tensor(learn), torch.tensor(answers)


def texts_for_tokenizer(facts: corpus.Corpus, rng: Random) -> list[str]:
    """Enough of the corpus for its words to become tokens, the answers above all."""
    conversations = [talks.draw_conversation(facts, rng, turns=2) for _ in range(6000)]
    return [message.content for messages in conversations for message in messages]
