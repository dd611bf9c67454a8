"""The demo model that ships: small, whole, and right about what it was trained on."""

from __future__ import annotations

import json
import re
import struct
from typing import TYPE_CHECKING

import pytest

from functions.demo import GGUF, MODEL_FOLDER, corpus
from functions.demo.corpus import DEFAULT_SYSTEM_PROMPT, Message
from functions.demo.evaluate import answer, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.engines.llamacpp import LlamaCppEngine

FACTS = corpus.load()
ANSWERS = {topic.name: topic.answer for topic in FACTS.topics}
QUESTIONS = [
    ("Hello", "hello"),
    ("hey", "hello"),
    ("How are you?", "how-are-you"),
    ("Who are you?", "who"),
    ("What can you do?", "can-do"),
    ("What is this project?", "what-is-this"),
    ("What does the emulator do?", "emulator"),
    ("How do I run this project?", "run"),
    ("How do I run the tests?", "test"),
    ("how do i run the tests", "test"),
    ("How do I deploy it?", "deploy"),
    ("What does emulator up do?", "up"),
    ("How do I add a model?", "replace"),
    ("What is a cold start?", "cold-start"),
    ("Which port does it use?", "port"),
    ("Do I need a GPU?", "gpu-needed"),
    ("Do I need an API key?", "key-auth"),
    ("How much does it cost?", "costs"),
    ("What is the capital of France?", "unknown"),
    ("Write a poem about the moon", "unknown"),
    ("Thank you!", "thanks"),
    ("Goodbye", "bye"),
]
SECOND_TURNS = [
    ("How do I run this project?", "And how do I stop it?", "stop"),
    ("What is a cold start?", "How do I avoid it?", "avoid-cold-start"),
    ("How do I add a model?", "And where do I put it?", "code-where"),
    ("What is a session?", "And how do I delete it?", "session-delete"),
    ("How do I make an API key?", "And how do I revoke it?", "revoke-key"),
]
TALK = [
    ("Hello", "hello"), ("What is this project?", "what-is-this"), ("How do I add a model?", "replace"),
    ("What does it cost?", "costs"), ("Thanks!", "thanks"),
]  # fmt: skip
SYSTEM = Message("system", DEFAULT_SYSTEM_PROMPT)


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaCppEngine]:
    engine = start(GGUF)
    yield engine
    engine.stop()


@pytest.mark.parametrize("before", [(), (SYSTEM,)], ids=["alone", "with-the-default-system-prompt"])
@pytest.mark.parametrize(("question", "topic"), QUESTIONS)
def test_it_answers_and_ends(engine: LlamaCppEngine, question: str, topic: str, before: tuple[Message, ...]) -> None:
    assert answer(engine, (*before, Message("user", question))) == ANSWERS[topic]


@pytest.mark.parametrize(("first", "second", "topic"), SECOND_TURNS)
def test_a_second_turn_is_understood_by_the_first(engine: LlamaCppEngine, first: str, second: str, topic: str) -> None:
    said = answer(engine, (SYSTEM, Message("user", first)))
    talk = (SYSTEM, Message("user", first), Message("assistant", said), Message("user", second))
    assert answer(engine, talk) == ANSWERS[topic]


def test_a_talk_of_several_turns_is_answered_turn_by_turn(engine: LlamaCppEngine) -> None:
    talk: tuple[Message, ...] = (SYSTEM,)
    for question, topic in TALK:
        talk = (*talk, Message("user", question))
        said = answer(engine, talk)
        assert said == ANSWERS[topic]
        talk = (*talk, Message("assistant", said))


def test_its_files_are_small_enough_for_the_repository() -> None:
    assert GGUF.stat().st_size <= 8_000_000
    assert (MODEL_FOLDER / "model.safetensors").stat().st_size <= 14_000_000


def test_its_safetensors_are_those_of_its_configuration() -> None:
    with (MODEL_FOLDER / "model.safetensors").open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    config = json.loads((MODEL_FOLDER / "config.json").read_text())
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    assert {tensor["dtype"] for tensor in tensors.values()} == {"F16"}
    assert tensors["model.embed_tokens.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    layers = {name.split(".")[2] for name in tensors if name.startswith("model.layers.")}
    assert len(layers) == config["num_hidden_layers"]
    count = sum(_product(tensor["shape"]) for tensor in tensors.values())
    said = re.search(r"([\d.]+) million parameters", ANSWERS["size"])
    assert said and f"{count / 1e6:.1f}" == said[1]
    assert f"{len(layers)} layers" in ANSWERS["size"] and f"size of {config['hidden_size']} " in ANSWERS["size"]


def test_both_forms_of_it_have_the_same_chat_template_and_vocabulary() -> None:
    tokenizer = json.loads((MODEL_FOLDER / "tokenizer.json").read_text())
    settings = json.loads((MODEL_FOLDER / "tokenizer_config.json").read_text())
    gguf = GGUF.read_bytes()
    assert settings["chat_template"].encode() in gguf
    vocabulary = {
        **tokenizer["model"]["vocab"],
        **{token["content"]: token["id"] for token in tokenizer["added_tokens"]},
    }
    assert sorted(vocabulary.values()) == list(range(3000))
    listed = sorted(vocabulary, key=lambda token: vocabulary[token])[:1000]
    assert b"".join(struct.pack("<Q", len(token.encode())) + token.encode() for token in listed) in gguf


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
