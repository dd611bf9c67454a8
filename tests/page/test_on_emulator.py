"""The page as `make run` serves it: the deployed web function, the demo model, a cold start that is one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from emulator.emulator import Emulator
from tests.page.browser import MISSING, chromium, launched, tab
from tests.service.deployment import DEMO, deploy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_demo_model_is_woken_and_answers_and_its_answer_is_kept() -> None:
    if chromium() is None:
        pytest.skip(MISSING)
    with Emulator() as emulator:
        service = deploy(emulator, [DEMO], WEB__HEARTBEAT_INTERVAL="0.5")
        for browser in launched():
            chat = tab(browser.new_context(), service.url)
            expect(chat.page.get_by_text("demo is asleep")).to_be_visible()
            chat.ask("What is this project?")
            expect(chat.page.locator(".boot")).to_contain_text(re.compile(r"demo.*\d+ s"))
            chat.answered()
            expect(chat.answers).to_have_text(re.compile(r"\w{3,}.*\w{3,}", re.S))
            expect(chat.page.locator(".figures")).to_contain_text("tokens")  # their rate, where they came one by one
            text = chat.answers.inner_text()
            chat.page.reload()
            expect(chat.answers).to_have_text(text, use_inner_text=True)
            assert not chat.complaints
