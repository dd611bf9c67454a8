"""The service without Modal, with scripted models of several tempers, and the page in a real browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.functions.test_standalone import Standalone, running
from tests.page.browser import MISSING, chromium, launched, tab
from tests.service.deployment import scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext

    from tests.page.browser import Chat

QUICK = {"tokens": 12, "cached_tokens": 3, "gap": 0.01}


def told(script: dict[str, Any]) -> tuple[str, str]:
    return ("--script", json.dumps(script))


MODELS = [
    scripted("steady", *told(QUICK), scaledown_window=300),
    scripted("slow-boot", "--boot-seconds", "4", scaledown_window=300),
    scripted("never-up", "--boot-seconds", "3600", scaledown_window=300),
    scripted("endless", *told({"tokens": 100_000, "gap": 0.02}), scaledown_window=300),
    {**scripted("sees", *told(QUICK), scaledown_window=300), "vision": True},
    scripted("broken", "--start-error", "no such weights", scaledown_window=300),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    log = tmp_path_factory.mktemp("page") / "service.log"
    with running(
        log, MODELS, WEB__HEARTBEAT_INTERVAL="0.5", LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE="1000000",
        LIMITS__MAX_PROMPT_LENGTH="1000000", LIMITS__MAX_RESPONSE_TOKENS="100000",
    ) as standalone:  # fmt: skip
        yield standalone


@pytest.fixture(scope="module")
def browser(service: Standalone) -> Iterator[Browser]:
    """Started after the service, and ended before it."""
    if chromium() is None:
        pytest.skip(MISSING)
    yield from launched()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield context
    context.close()


@pytest.fixture
def chat(context: BrowserContext, service: Standalone) -> Iterator[Chat]:
    chat = tab(context, service.url)
    yield chat
    assert not chat.complaints
