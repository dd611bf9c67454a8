"""How answers come and what they look like: cold starts, failures, both transports, Markdown, code and math."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Route

    from tests.page.browser import Chat

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RICH = """# A heading

Some **bold** words, a [link](https://example.com) and $e^{i\\pi}$, which costs $5 or $6.

- one
- [x] ticked

| name | amount |
|---|---:|
| a | 1 |

```python
def f(x: int) -> str:  # a line that is long enough to be longer than the box of code that it stands in, by a good bit
    return f"{x}"
```

$$
\\int_0^1 x\\,dx
$$

![a cat](https://example.com/cat.png)
"""


def test_a_cold_start_is_told_in_words_with_its_seconds_and_what_comes_next(chat: Chat) -> None:
    chat.choose("slow-boot")
    expect(chat.page.get_by_text("scripted/slow-boot is asleep")).to_be_visible()
    chat.ask("Wake up")
    boot = chat.page.locator(".boot")
    expect(boot).to_contain_text(re.compile(r"(waiting for a machine|Starting the engine).*\d+ s"))
    expect(boot).to_contain_text(re.compile(r"Then it"))
    chat.answered()
    expect(boot).to_have_count(0)
    expect(chat.page.locator(".model")).to_contain_text("ready")


def test_an_engine_that_does_not_start_is_told_of_with_its_reason(chat: Chat) -> None:
    chat.choose("broken")
    chat.ask("Anybody there?")
    expect(chat.page.get_by_role("alert")).to_contain_text("no such weights")
    expect(chat.page.get_by_role("button", name="Retry")).to_be_visible()


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came_and_tried_again(chat: Chat) -> None:
    chat.script(error_after=4, tokens=9)
    chat.ask("Half of it")
    expect(chat.page.get_by_role("alert")).to_contain_text("scripted error")
    expect(chat.answers).to_have_text("t0 t1 t2 t3")
    chat.script(text="all of it")
    chat.page.get_by_role("button", name="Retry").click()
    expect(chat.answers).to_have_text("all of it")
    expect(chat.questions).to_have_count(1)


def test_answers_come_over_a_websocket_where_that_is_set_and_are_stopped_there(chat: Chat) -> None:
    page = chat.page
    page.keyboard.press("Control+,")
    page.get_by_label("Answers come by").select_option("websocket")
    page.get_by_role("button", name="Close settings").click()
    with page.expect_websocket() as socket:
        chat.ask("Over a socket")
    assert socket.value.url.startswith("ws://")
    chat.answered()
    expect(chat.answers).to_contain_text("t11")
    expect(page.locator(".figures")).to_contain_text("12 tokens")
    chat.choose("endless")
    chat.ask("To be stopped")
    expect(chat.answers.last).to_contain_text("t9")
    page.keyboard.press("Escape")
    expect(page.locator(".mark")).to_have_text("Stopped here.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    chat.answered(2)
    page.reload()
    expect(chat.answers.last).to_contain_text("t9")
    expect(page.locator(".mark")).to_have_text("Stopped here.")


def test_an_answer_can_be_stopped_while_its_engine_starts(chat: Chat) -> None:
    chat.choose("never-up")
    chat.ask("To be stopped")
    expect(chat.page.locator(".boot")).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.page.locator(".mark")).to_have_text("Stopped here, before its first word.")
    expect(chat.page.get_by_role("button", name="Send")).to_be_visible()


def test_markdown_is_drawn_with_code_tables_and_math(chat: Chat) -> None:
    chat.script(text=RICH, gap=0.005)
    chat.ask("Everything, please")
    chat.answered()
    answer = chat.answers
    expect(answer.get_by_role("heading", level=3)).to_have_text("A heading")
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.get_by_role("checkbox")).to_be_checked()
    expect(answer.get_by_role("cell").last).to_have_css("text-align", "right")
    expect(answer.locator(".code .hljs-keyword").first).to_have_text("def")
    expect(answer.locator(".katex-display")).to_have_count(1)
    expect(answer.locator("p .katex")).to_have_count(1)
    expect(answer.locator("p", has_text="costs $5 or $6")).to_have_count(1)
    expect(answer.locator("img")).to_have_count(0)
    expect(answer.get_by_text("Image: a cat (not loaded)")).to_be_visible()


def test_code_is_copied_and_wrapped(chat: Chat) -> None:
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.script(text=RICH)
    chat.ask("Code, please")
    chat.answered()
    code = chat.answers.locator("figure.code")
    code.get_by_role("button", name="Copy").click()
    expect(code.get_by_role("button", name="Copy")).to_have_attribute("data-copied", "true")
    assert chat.page.evaluate("navigator.clipboard.readText()").startswith("def f(x: int) -> str:")
    code.get_by_role("button", name="Wrap").click()
    expect(code.locator("code")).to_have_css("white-space", "pre-wrap")
    chat.page.reload()
    expect(code.locator("code")).to_have_css("white-space", "pre-wrap")


def test_what_is_drawn_already_is_left_alone_while_an_answer_grows(chat: Chat) -> None:
    chat.script(text=f"First paragraph.\n\n```python\nx = 1\n```\n\n{'word ' * 150}", gap=0.01)
    chat.ask("Grow")
    expect(chat.answers).to_contain_text("word word")
    mark = "document.querySelectorAll('.answer .block').forEach((block, at) => block.firstElementChild.marked = at)"
    chat.page.evaluate(mark)
    chat.answered()
    kept = "[...document.querySelectorAll('.answer .block')].map(block => block.firstElementChild.marked)"
    assert chat.page.evaluate(kept) == [0, 1, 2]


def test_images_of_elsewhere_are_fetched_once_they_are_allowed(chat: Chat) -> None:
    asked: list[str] = []

    def picture(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(
            content_type="image/svg+xml", body='<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
        )

    chat.page.context.route("https://example.com/**", picture)
    chat.script(text=RICH)
    chat.ask("A cat, please")
    chat.answered()
    assert asked == []
    chat.page.get_by_role("button", name="Settings", exact=True).click()
    chat.page.get_by_label("Load images that answers name").click()
    expect(chat.answers.get_by_role("img", name="a cat")).to_be_visible()
    assert asked == ["https://example.com/cat.png"]
    assert "images=allow" in chat.page.url
