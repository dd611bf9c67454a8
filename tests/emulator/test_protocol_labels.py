"""The labels of web addresses, as Modal's documentation has them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from grpclib import GRPCError
from modal_proto import api_pb2

from emulator.protocol.addresses import addresses, label
from emulator.state import App, FunctionRecord

DEPLOYED = App("ap-1", "Text_To Speech", "main", api_pb2.APP_STATE_DEPLOYED, 0.0, 0.0, name="Text_To Speech")
SERVED = App("ap-2", "Text_To Speech", "main", api_pb2.APP_STATE_EPHEMERAL, 0.0, 0.0)
LONG = "really-really-really-long-function-name-that-no-host-can-have"


def asking(suffix: str = "", dev: str = "") -> api_pb2.WebhookConfig:
    return api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_ASGI_APP, requested_suffix=suffix, ephemeral_suffix=dev)


@pytest.mark.parametrize(
    ("app", "webhook", "expected"),
    [
        (DEPLOYED, asking(), "text-to-speech-flask-app"),
        (DEPLOYED, asking("speechify"), "speechify"),
        (SERVED, asking(), "text-to-speech-flask-app-dev"),
        (SERVED, asking("speechify"), "speechify-dev"),
        (SERVED, asking("speechify", "Joe7"), "speechify-joe7"),
        (DEPLOYED, None, "text-to-speech-flask-app"),
    ],
)
def test_a_label_is_made_of_the_app_and_the_function_or_is_what_was_asked_for(
    app: App, webhook: api_pb2.WebhookConfig | None, expected: str
) -> None:
    assert label(app, "flask_app", webhook) == expected


def test_a_label_that_is_too_long_ends_in_a_hash_and_keeps_its_suffix() -> None:
    deployed, served = label(DEPLOYED, LONG), label(SERVED, LONG)
    assert len(deployed) == len(served) == 63
    assert re.fullmatch(r"text-to-speech-really-really-really-long-function-name-t-[0-9a-f]{6}", deployed)
    assert re.fullmatch(r"text-to-speech-really-really-really-long-function-na-[0-9a-f]{6}-dev", served)
    assert label(DEPLOYED, LONG + "-2") != deployed


def test_a_label_is_behind_the_web_suffix_of_its_environment() -> None:
    there = replace(DEPLOYED, web_suffix="dev")
    assert label(there, "f") == "dev--text-to-speech-f"
    assert label(there, "f", asking("speechify")) == "dev--speechify"
    assert len(label(there, LONG)) == 63


@pytest.mark.parametrize("wrong", ["Upper", "under_score", "-dash", "dash-", "a.b", "späti"])
def test_a_label_that_was_asked_for_is_refused_rather_than_changed(wrong: str) -> None:
    with pytest.raises(GRPCError, match="Invalid label"):
        label(DEPLOYED, "f", asking(wrong))


def test_each_web_method_of_a_class_has_an_address_of_its_own() -> None:
    definition = api_pb2.Function(is_class=True)
    definition.method_definitions["first"].webhook_config.CopyFrom(asking())
    definition.method_definitions["second"].webhook_config.CopyFrom(asking("mine"))
    found = addresses(DEPLOYED, FunctionRecord("fu-1", "ap-1", "Web.*"), definition)
    assert {address.method: address.label for address in found} == {
        "first": "text-to-speech-web-first",
        "second": "mine",
    }
