"""A process's client and environment belong to one emulator at a time, and in the end to the developer again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import boto3
import modal.config
import pytest

from emulator.testing.options import WrongOption, options
from emulator.testing.pointing import Pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = {"MODAL_SERVER_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL": "http://127.0.0.1:2"}
SECOND = {"MODAL_SERVER_URL": "http://127.0.0.1:3"}


@pytest.fixture
def developer(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A developer with an account, a profile and a session at AWS."""
    for name in [name for name in os.environ if name.startswith(("MODAL_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-real")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setattr(modal.config, "_user_config", {"work": {"token_secret": "as-real"}})
    monkeypatch.setattr(modal.config, "_profile", "work")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", "a real session")
    yield seen()


def seen() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("MODAL_", "AWS_"))}


def test_nothing_of_the_developers_is_seen_meanwhile_and_all_of_it_is_put_back(developer: dict[str, str]) -> None:
    pointer = Pointer()
    point = pointer.point(FIRST)
    assert seen() == FIRST
    assert modal.config.config.get("token_secret") is None
    assert boto3.DEFAULT_SESSION is None
    pointer.remove(point)
    assert seen() == developer
    assert modal.config.config.get("token_secret") == "as-real"
    assert boto3.DEFAULT_SESSION == "a real session"


@pytest.mark.parametrize("order", ["the last first", "the first first"])
def test_the_last_that_is_still_there_is_in_force(developer: dict[str, str], order: str) -> None:
    pointer = Pointer()
    first = pointer.point(FIRST)
    second = pointer.point(SECOND)
    assert seen() == SECOND
    ending, staying, left = (second, first, FIRST) if order == "the last first" else (first, second, SECOND)
    pointer.remove(ending)
    assert seen() == left
    pointer.remove(staying)
    assert seen() == developer


def test_what_a_wider_fixture_sets_for_its_emulator_is_there_again_after_anothers(developer: dict[str, str]) -> None:
    pointer = Pointer()
    first = pointer.point(FIRST)
    os.environ["MODAL_ENVIRONMENT"] = "dev"
    pointer.remove(pointer.point(SECOND))
    assert seen() == {**FIRST, "MODAL_ENVIRONMENT": "dev"}
    pointer.remove(first)
    assert seen() == developer


def test_the_closest_mark_wins() -> None:
    marks = [((), {"max_containers": 2}), ((), {"max_containers": 5, "max_starting": 1})]
    chosen = options(marks, containers="zygote")
    del chosen["clock"]
    assert chosen == {"containers": "zygote", "max_containers": 2, "max_starting": 1}


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(WrongOption, match="no option 'contianers': it has aws_port, clock, containers,"):
        options([((), {"contianers": "zygote"})], containers="auto")
    with pytest.raises(WrongOption, match="containers='vm' is unknown: use 'auto', 'zygote', 'process'"):
        options([((), {"containers": "vm"})], containers="auto")
    with pytest.raises(WrongOption, match="named options only, not 'zygote'"):
        options([(("zygote",), {})], containers="auto")
