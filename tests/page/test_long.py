"""Long answers and long chats: all of it is there, and the page answers meanwhile (figures: tests/benchmarks)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.benchmarks.chat_page import WATCH, told_of_frames, words
from tests.page.browser import tab

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

    from tests.functions.test_standalone import Standalone
    from tests.page.browser import Chat

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_an_answer_of_two_thousand_tokens_streams_without_holding_up_the_page(chat: Chat) -> None:
    chat.script(text=words(2000) + "\n\nthe very end", gap=0.004)
    chat.page.evaluate(WATCH)
    chat.ask("All of it")
    chat.answered()
    expect(chat.answers).to_contain_text("the very end")
    expect(chat.answers.get_by_role("heading", name="Part 50", exact=True)).to_have_count(1)
    assert told_of_frames(chat)["longest_task_ms"] < 2000, "on a busy machine; on a quiet one there is none above 50"


def test_five_hundred_messages_are_all_there_and_the_last_one_is_shown(
    context: BrowserContext, service: Standalone
) -> None:
    told = [{"role": "assistant" if n % 2 else "user", "content": f"Message {n}"} for n in range(500)]

    def messages(route: Route) -> None:
        route.fulfill(content_type="application/json", body=json.dumps(told))

    context.route("**/messages", messages)
    chat = tab(context, service.url, "#/chat/long")
    expect(chat.page.locator(".message")).to_have_count(500)
    expect(chat.page.get_by_text("Message 499", exact=True)).to_be_in_viewport()
    chat.page.locator(".transcript").hover()
    chat.page.mouse.wheel(0, -1_000_000)
    expect(chat.page.get_by_text("Message 0", exact=True)).to_be_in_viewport()
    chat.page.get_by_role("button", name="To the latest message").click()
    expect(chat.page.get_by_text("Message 499", exact=True)).to_be_in_viewport()
