"""The demo model's corpus can be read, is drawn from by a seed, and says nothing that the project does not have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from random import Random

import pytest

from functions.demo import corpus
from infra.settings import Model, Settings

ROOT = Path(__file__).parents[2]
FACTS = corpus.load()
ANSWERS = {topic.name: topic.answer for topic in FACTS.topics}


def spans() -> set[str]:
    """What stands between backticks in the answers."""
    return {span for answer in ANSWERS.values() for span in re.findall(r"`([^`]+)`", answer)}


def test_every_topic_has_one_answer_several_phrasings_and_one_that_training_never_sees() -> None:
    assert len(FACTS.topics) > 80
    assert len(ANSWERS) == len(FACTS.topics)
    for topic in FACTS.topics:
        assert topic.held_out, topic.name
        assert not set(topic.held_out) & set(topic.trained), topic.name
        assert len({FACTS.expand(pattern, Random(n)) for pattern in topic.trained for n in range(20)}) >= 8, topic.name


def test_a_phrasing_stands_for_each_of_its_alternatives_and_phrases() -> None:
    facts = corpus.Corpus(topics=(), phrases={"how": ("How do I", "How to")})
    drawn = {facts.expand("{how} (run|start) it (now|)", Random(n)) for n in range(100)}
    assert drawn == {
        f"{how} {verb} it{end}" for how in ("How do I", "How to") for verb in ("run", "start") for end in (" now", "")
    }


def test_a_seed_decides_the_conversations() -> None:
    drawn = [[corpus.draw_conversation(FACTS, rng) for _ in range(20)] for rng in (Random(1), Random(1), Random(2))]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_conversation_alternates_and_ends_with_an_answer() -> None:
    rng = Random(3)
    for _ in range(200):
        roles = [message.role for message in corpus.draw_conversation(FACTS, rng)]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nQ: x\n", r"self\.txt \[a\]: a topic has one `A:`"),
        ("[a]\nQ: x\nA: y\nA: z\n", r"self\.txt \[a\]: a topic has one `A:`"),
        ("[a]\nQuestion x\nA: y\n", r"self\.txt \[a\]: expected `Q:`, `H:` or `A:`, got 'Question x'"),
        ("[a]\nQ: {nothing} x\nA: y\n", r"self\.txt \[a\]: no phrases are named 'nothing'"),
    ],
)
def test_a_mistake_in_the_facts_is_named(tmp_path: Path, text: str, message: str) -> None:
    for name in (*corpus.FILES, "phrases", "words"):
        (tmp_path / f"{name}.txt").write_text("")
    (tmp_path / "self.txt").write_text("\n" + text)
    with pytest.raises(ValueError, match=message):
        corpus.load(tmp_path)


def test_every_make_target_that_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {span.removeprefix("make ") for span in spans() if span.startswith("make ")}
    assert named >= {"run", "test", "lint", "check"}
    assert named <= targets


def test_every_configuration_key_and_section_that_it_names_exists() -> None:
    sections = {name: field.annotation.model_fields for name, field in Settings.model_fields.items()}  # type: ignore[union-attr]
    for name, answer in ANSWERS.items():
        if found := re.match(r"`([a-z_]+)` under `\[([a-z]+)\]`", answer):
            assert found[1] in sections[found[2]], name
    named = set(re.findall(r"`\[([a-z]+)\]`", ANSWERS["sections"]))
    assert {"server", "models", "security", "limits", "web", "deploy"} <= named <= set(sections)
    assert set(re.findall(r"`([a-z_]+)`", ANSWERS["key-model"])) <= set(Model.model_fields)


@pytest.mark.parametrize(
    ("topic", "section", "key"),
    [
        ("key-host", "server", "host"),
        ("key-log-level", "server", "log_level"),
        ("key-device", "models", "default_device"),
        ("key-concurrent", "models", "max_concurrent_requests"),
        ("key-prompt-length", "limits", "max_prompt_length"),
        ("key-response-tokens", "limits", "max_response_tokens"),
        ("key-sessions", "limits", "max_sessions"),
        ("key-session-ttl", "limits", "session_ttl_seconds"),
        ("key-rate-limit", "limits", "default_rate_limit_per_minute"),
        ("key-metrics", "observability", "metrics_path"),
    ],
)
def test_every_default_that_it_states_is_the_default(topic: str, section: str, key: str) -> None:
    default = str(getattr(getattr(Settings(), section), key))
    assert re.search(rf"(?<!\w){re.escape(default)}(?!\w)", ANSWERS[topic])


def test_every_folder_and_file_that_it_names_exists() -> None:
    named = {span for span in spans() if re.fullmatch(r"[a-z]+(/[a-z]+)*/|[\w.]+\.(py|md|toml)", span)}
    assert "emulator/" in named
    assert not {name for name in named if not (ROOT / name).exists()} - {"config.toml"}


def test_what_it_says_of_python_is_what_the_project_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert ANSWERS["requirements"].startswith("Python 3.11, 3.12 or 3.13")
