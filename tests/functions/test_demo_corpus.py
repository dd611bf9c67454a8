"""The demo model's corpus can be read, is drawn from by a seed, and says nothing that the project does not have."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path
from random import Random

import pytest

from functions.demo import borrowed, cases, corpus, talks, wording
from infra.settings import Settings
from tests.functions.demo_code import Checker, Code, pieces, routes

ROOT = Path(__file__).parents[2]
FACTS = corpus.load()
PARTS: tuple[corpus.Part, ...] = ("validate", "test")
ANSWERS = {topic.name: topic.answer for topic in FACTS.topics}


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker(asyncio.run(routes()))


def draw(topic: corpus.Topic, enough: int) -> set[str]:
    """Phrasings of a topic, `enough` of them if it has so many."""
    rng, found = Random(0), set[str]()
    for _ in range(40 * enough):
        found.add(FACTS.expand(rng.choice(topic.phrasings), rng))
        if len(found) == enough:
            break
    return found


def test_every_fact_has_twenty_phrasings_and_a_wording_that_training_never_sees() -> None:
    assert len(FACTS.topics) > 150
    for topic in FACTS.topics:
        enough = 6 if topic.after else 15 if topic.file == "smalltalk" else 20
        assert len(draw(topic, enough)) == enough, topic.name
        assert topic.wordings, topic.name
        assert not set(topic.wordings) & set(topic.phrasings), topic.name


def test_a_third_of_the_phrasings_is_kept_for_the_test_and_a_few_for_tuning() -> None:
    topic = FACTS.by_name["unknown"]
    drawn = {question for question in draw(topic, 1500) if len(question.split()) > 2}
    parts = [corpus.part_of(topic, question) for question in drawn]
    assert 0.3 < parts.count("test") / len(parts) < 0.37
    assert 0.05 < parts.count("validate") / len(parts) < 0.09
    for part in ("train", "validate", "test"):
        assert {corpus.part_of(topic, FACTS.phrase(topic, Random(n), part)) for n in range(50)} == {part}


def test_the_evaluation_asks_nothing_that_was_trained() -> None:
    asked = cases.cases(FACTS, "test")
    kinds = [case.kind for case in asked]
    assert kinds.count("unrelated") == 60
    assert kinds.count("talks") == 30
    assert kinds.count("phrasings") > 400
    topics: dict[str, list[corpus.Topic]] = {}
    for topic in FACTS.topics:
        topics.setdefault(topic.answer, []).append(topic)
    for case in asked:
        for question, answer in zip(case.questions, case.expected, strict=True):
            parts = {corpus.part_of(topic, question.removesuffix("?")) for topic in topics[answer]}
            assert case.kind in ("wordings", "unrelated") or "test" in parts, question


def test_a_phrasing_stands_for_each_of_its_alternatives_and_phrases() -> None:
    facts = corpus.Corpus(topics=(), phrases={"how": ("How do I", "How to")})
    drawn = {facts.expand("{how} (run|start) it (now|)", Random(n)) for n in range(100)}
    assert drawn == {
        f"{how} {verb} it{end}" for how in ("How do I", "How to") for verb in ("run", "start") for end in (" now", "")
    }


def test_a_borrowed_question_has_a_facts_shape_and_is_about_something_else() -> None:
    rng, exchanged = Random(0), ("cello", "a risotto")
    assert borrowed.borrowed("How do I add a model", exchanged[:1], rng) in (
        "How do I add a cello",
        "How do I cello a cello",
    )
    assert borrowed.borrowed("Which models are there", exchanged[1:], rng) == "Which risotto are there"
    assert borrowed.borrowed("How do I run it", exchanged, rng) is None
    assert borrowed.foreign(("a cello", "a model", "a model railway"), ("Add a model",)) == (
        "a cello",
        "a model railway",
    )


def test_no_borrowed_question_is_one_of_the_projects_own() -> None:
    own = {question.lower() for topic in FACTS.topics if topic.name != "unknown" for question in topic.plain}
    drawn = {FACTS.expand("{borrowed}", Random(n)).lower() for n in range(500)}
    assert len(drawn) > 450
    assert not drawn & own


def test_the_questions_that_tune_the_refusals_are_not_those_that_test_them() -> None:
    tuned, tested = (
        {case.questions[0] for case in cases.cases(FACTS, part) if case.kind == "unrelated"} for part in PARTS
    )
    assert len(tuned) >= 60
    assert len(tuned & tested) == 0  # and no look at those of the test


def test_a_seed_decides_the_conversations() -> None:
    drawn = [
        [talks.draw_conversation(FACTS, rng, turns=2) for _ in range(20)] for rng in (Random(1), Random(1), Random(2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_conversation_alternates_and_ends_with_an_answer() -> None:
    rng = Random(3)
    for _ in range(100):
        turns = talks.draw_turns(rng)
        roles = [message.role for message in talks.draw_conversation(FACTS, rng, turns=turns)]
        assert (roles[1:] if roles[0] == "system" else roles) == ["user", "assistant"] * turns


def test_a_second_turn_follows_one_of_those_that_it_is_for() -> None:
    topics = [talks.draw_next(FACTS, FACTS.by_name["run"], Random(n)) for n in range(200)]
    seconds = {topic.name for topic in topics if topic.after}
    assert seconds == {topic.name for topic in FACTS.topics if "run" in topic.after}
    assert not any(talks.draw_topic(FACTS, Random(n)).after for n in range(200))


def test_what_people_type_differs_by_more_than_its_words() -> None:
    typed = {wording.ask(FACTS, FACTS.by_name["run"], Random(n)) for n in range(300)}
    assert any(question.islower() for question in typed)
    assert any(question.endswith("?") for question in typed)
    assert any(not question.endswith("?") for question in typed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nQ: x\n", r"self\.txt \[a\]: a topic has one `A:`"),
        ("[a]\nQ: x\nA: y\nA: z\n", r"self\.txt \[a\]: a topic has one `A:`"),
        ("[a]\nQuestion x\nA: y\n", r"self\.txt \[a\]: expected `Q:`, `H:` or `A:`, got 'Question x'"),
        ("[a]\nQ: {nothing} x\nA: y\n", r"self\.txt \[a\]: no phrases are named 'nothing'"),
        ("[a]\nQ: x\nA: @b\n", r"self\.txt \[a\]: there is no topic 'b'"),
        ("[a after b]\nQ: x\nA: y\n", r"self\.txt \[a\]: there is no topic 'b'"),
        ("[a after]\nQ: x\nA: y\n", r"self\.txt: expected `\[name\]`"),
        ("[a]\nQ: x\nA: y\n\n[a]\nQ: z\nA: y\n", r"self\.txt \[a\]: there is another topic of this name"),
    ],
)
def test_a_mistake_in_the_facts_is_named(tmp_path: Path, text: str, message: str) -> None:
    for name in (*corpus.WORDS, corpus.UNRELATED):
        (tmp_path / f"{name}.txt").write_text("")
    (tmp_path / "self.txt").write_text("\n" + text)
    with pytest.raises(ValueError, match=message):
        corpus.load(tmp_path)


def test_an_answer_may_have_several_lines_and_be_another_topics(tmp_path: Path) -> None:
    for name in (*corpus.WORDS, corpus.UNRELATED):
        (tmp_path / f"{name}.txt").write_text("")
    text = "[a]\nQ: x\nA: Type:\n  ```toml\n  [limits]\n  ```\n\n[b after a]\nQ: y\nA: @a\n"
    (tmp_path / "self.txt").write_text(text)
    first, second = corpus.load(tmp_path).topics
    assert first.answer == second.answer == "Type:\n```toml\n[limits]\n```"


def test_every_piece_of_code_stands_for_something_that_is_there(checker: Checker) -> None:
    wrong = {
        (topic.name, code.text): complaint
        for topic in FACTS.topics
        for code in pieces(" ".join((topic.answer, *topic.phrasings)))
        if (complaint := checker.wrong(code))
    }
    assert not wrong


@pytest.mark.parametrize(
    "code",
    [
        Code("", "make fly"), Code("", "make run DOOR=1"), Code("", "modal fly"), Code("", "emulator up --fly"),
        Code("", "emulator exec -- modal fly"), Code("", "python -m infra.fly"),
        Code("", "python -m infra.setup --fly"), Code("", "python -m infra.admin keys fly"), Code("", "GET /fly"),
        Code("", "PATCH /health"), Code("", "/fly"), Code("", "[fly]"), Code("", "server.fly"), Code("", "fly = 1"),
        Code("", "FLY"), Code("", "SERVER__FLY"), Code("", "docs/fly.md"), Code("", "fly.py"), Code("", "rm -rf /"),
        Code("", "a word that no page has"), Code("console", "$ fly\n"), Code("rust", "x\n"),
        Code("console", "$ curl http://127.0.0.1:3000/fly\n"), Code("toml", "[server]\nfly = 1\n"),
        Code("toml", "[[models.available_models]]\nfly = 1\n"),
    ],
    ids=lambda code: code.text.strip().replace("\n", " "),
)  # fmt: skip
def test_what_is_not_there_is_found(checker: Checker, code: Code) -> None:
    assert checker.wrong(code)


@pytest.mark.parametrize(
    ("topic", "section", "key"),
    [
        ("network", "server", "host"),
        ("key-log-level", "server", "log_level"),
        ("key-device", "models", "default_device"),
        ("key-concurrent", "models", "max_concurrent_requests"),
        ("key-prompt-length", "limits", "max_prompt_length"),
        ("key-response-tokens", "limits", "max_response_tokens"),
        ("key-sessions", "limits", "max_sessions"),
        ("key-session-ttl", "limits", "session_ttl_seconds"),
        ("key-rate-limit", "limits", "default_rate_limit_per_minute"),
        ("key-metrics", "observability", "metrics_path"),
        ("system-prompt", "sessions", "system_prompt"),
        ("session", "sessions", "context_messages"),
        ("booting-503", "web", "plain_deadline"),
        ("app-name", "deploy", "app_name"),
        ("port", "server", "port"),
    ],
)
def test_every_default_that_it_states_is_the_default(topic: str, section: str, key: str) -> None:
    default = getattr(getattr(Settings(), section), key)
    default = f"{default:g}" if isinstance(default, float) else str(default)
    assert re.search(rf"(?<!\w){re.escape(default)}(?!\w)", ANSWERS[topic])


def test_what_it_says_of_python_is_what_the_project_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "Python 3.11, 3.12 or 3.13" in ANSWERS["requirements"]
