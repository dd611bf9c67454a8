"""Whoever uses it, and wherever: by keyboard, with a screen reader, on a phone, without a network, with a key."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.functions.test_standalone import ROOT, Standalone, running
from tests.page.browser import Chat, tab
from tests.page.conftest import MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = "sk-page-0123456789abcdef"
PAGE = ROOT / "page"
EVERYTHING = """# Hi

A [link](https://example.com), `code`, $x^2$

| a | b |
|---|---|
| 1 | 2 |

```python
# no
x = 1
```
"""


@pytest.fixture(scope="module")
def libraries() -> Path:
    """What the page is built with, as its lock says."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js with npm is not on this machine: it builds the page, which runs without")
    if not (PAGE / "node_modules" / "axe-core").exists():
        subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"],
            cwd=PAGE, check=True, timeout=240,
        )  # fmt: skip
    return PAGE / "node_modules"


def violations(chat: Chat, libraries: Path) -> list[str]:
    chat.page.evaluate((libraries / "axe-core" / "axe.min.js").read_text() + ";0")
    found: Any = chat.page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(told => told.violations)")
    return [f"{one['id']}: {node['html'][:160]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, service: Standalone, libraries: Path, theme: Any) -> None:
    context = browser.new_context(color_scheme=theme, reduced_motion="reduce")
    chat = tab(context, service.url)
    expect(chat.page.locator(".model")).to_be_visible()
    assert violations(chat, libraries) == []
    chat.script(text=EVERYTHING)
    chat.ask("Everything")
    chat.answered()
    expect(chat.answers.locator(".hljs-comment")).to_be_visible()
    expect(chat.answers.locator(".katex")).to_be_visible()
    assert violations(chat, libraries) == []
    chat.script(error_after=0, error_status=400)
    chat.ask("And a failure")
    expect(chat.page.get_by_role("alert")).to_be_visible()
    chat.row.get_by_role("button").click()
    expect(chat.page.get_by_role("menuitem", name="Rename")).to_be_visible()
    assert violations(chat, libraries) == []
    chat.page.keyboard.press("Escape")
    chat.page.keyboard.press("Control+,")
    expect(chat.page.get_by_label("Temperature")).to_be_visible()
    assert violations(chat, libraries) == []
    context.close()


@pytest.mark.parametrize("width", [360, 820, 1680])
def test_nothing_lies_beside_the_screen_however_wide_it_is(browser: Browser, service: Standalone, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 740}, has_touch=width < 500)
    chat = tab(context, service.url)
    chat.script(text=f"`{'long' * 90}` {'unbroken' * 60}\n\n| {' | '.join('column' * 9)} |\n|{'---|' * 54}\n")
    chat.ask("x" * 300)
    chat.answered()
    beside = "document.documentElement.scrollWidth - innerWidth"
    assert chat.page.evaluate(beside) <= 0
    assert chat.page.locator(".transcript").evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    expect(chat.box).to_be_in_viewport()
    listed = chat.page.get_by_role("searchbox", name="Search chats")
    if width < 740:
        expect(listed).not_to_be_visible()
        chat.page.get_by_role("button", name="Chats", exact=True).click()
    expect(listed).to_be_in_viewport()
    context.close()


def test_everything_is_done_by_keyboard(chat: Chat) -> None:
    keys = chat.page.keyboard
    expect(chat.box).to_be_focused()
    keys.type("First")
    keys.press("Shift+Enter")
    keys.type("line")
    keys.press("Enter")
    expect(chat.questions).to_have_text("First\nline")
    chat.answered()
    keys.press("ArrowUp")
    editing = chat.page.get_by_role("textbox", name="Edit your message")
    expect(editing).to_be_focused()
    keys.press("Escape")
    expect(editing).to_have_count(0)
    chat.row.get_by_role("button").focus()
    keys.press("Enter")
    expect(chat.page.get_by_role("menuitem", name="Rename")).to_be_focused()
    keys.press("ArrowDown")
    expect(chat.page.get_by_role("menuitem", name="Export as Markdown")).to_be_focused()
    keys.press("Escape")
    expect(chat.row.get_by_role("button")).to_be_focused()
    keys.press("?")
    expect(chat.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    keys.press("Escape")
    keys.press("Control+Shift+O")
    expect(chat.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    expect(chat.box).to_be_focused()


def test_it_follows_the_systems_theme_unless_told_otherwise(chat: Chat) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    chat.page.emulate_media(color_scheme="light")
    light = chat.page.evaluate(ground)
    chat.page.emulate_media(color_scheme="dark")
    assert chat.page.evaluate(ground) != light
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_label("Appearance").select_option("light")
    assert chat.page.evaluate(ground) == light
    chat.page.reload()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "light")
    assert chat.page.evaluate(ground) == light


def test_nothing_moves_for_who_wants_less_motion(chat: Chat) -> None:
    chat.page.emulate_media(reduced_motion="reduce")
    chat.script(ttft=2.0)
    chat.ask("Slowly")
    expect(chat.page.locator(".boot")).to_be_visible()
    assert (
        float(chat.page.locator(".boot").evaluate("box => parseFloat(getComputedStyle(box).animationDuration)")) < 0.001
    )
    chat.answered()


def test_without_a_network_a_question_waits_until_it_can_be_sent(chat: Chat, context: BrowserContext) -> None:
    chat.ask("Online")
    chat.answered()
    context.set_offline(True)
    chat.ask("Offline")
    expect(chat.page.get_by_role("alert")).to_contain_text("This device is offline")
    expect(chat.questions.last).to_have_text("Offline")
    context.set_offline(False)
    chat.page.reload()
    expect(chat.questions).to_have_text(["Online", "Offline"])
    chat.page.get_by_role("button", name="Retry").click()
    chat.answered(2)


def test_a_chat_that_expires_under_a_draft_gives_it_to_a_new_one(chat: Chat, service: Standalone) -> None:
    chat.ask("Soon forgotten")
    chat.answered()
    session = chat.page.url.rpartition("/")[2]
    chat.page.evaluate(f"fetch('v1/sessions/{session}', {{method: 'DELETE'}})")
    chat.box.fill("A long thought")
    chat.page.reload()
    expect(chat.page.get_by_role("heading", name="This chat is not there any more")).to_be_visible()
    chat.page.get_by_role("button", name="Begin a new chat").click()
    expect(chat.box).to_have_value("A long thought")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The service where keys are asked for."""
    keys = json.dumps([{"key": KEY, "name": "person"}])
    log = tmp_path_factory.mktemp("locked") / "service.log"
    with running(log, MODELS[:1], SECURITY__ENABLE_AUTH="true", SECURITY__API_KEYS=keys) as standalone:
        yield standalone


@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_a_key_is_asked_for_kept_in_the_browser_and_forgotten_on_demand(
    context: BrowserContext, locked: Standalone, transport: str
) -> None:
    chat = tab(context, locked.url)
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_label("API key").fill("sk-wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.get_by_role("heading", name="This key is not accepted")).to_be_visible()
    dialog.get_by_label("API key").fill(KEY)
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_have_count(0)
    expect(chat.page.locator(".model")).to_be_visible()
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_label("Answers come by").select_option(transport)
    chat.page.get_by_role("button", name="Close settings").click()
    chat.ask("With a key")
    chat.answered()
    expect(chat.answers).to_contain_text("t11")
    chat.page.reload()
    expect(chat.answers).to_contain_text("t11")
    assert KEY not in re.sub(r"\s", "", chat.page.url)
    assert KEY in json.dumps(context.storage_state())
    assert not context.cookies()


SAYS_LATE_THAT_IT_WAS_CLOSED = """
    const asked = window.fetch;
    let known;
    const refused = new Promise((resolve) => { known = resolve; });
    window.fetch = async (path, options) => {
        const answer = await asked(path, options);
        if (answer.status === 401 && options.headers.authorization) known();
        return answer;
    };
    window.addEventListener("close", async (event) => {
        if (!event.isTrusted) return;
        event.stopImmediatePropagation();
        await refused;
        setTimeout(() => event.target.dispatchEvent(new Event("close")), 100);
    }, true);
"""
"""A browser in which the service's word on a key is quicker than the dialog's that it was closed."""


def test_a_key_that_is_refused_at_once_is_asked_for_again(context: BrowserContext, locked: Standalone) -> None:
    context.add_init_script(SAYS_LATE_THAT_IT_WAS_CLOSED)
    chat = tab(context, locked.url)
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_label("API key").fill("sk-wrong")
    with chat.page.expect_event("console", lambda said: said.text == "closed"):
        chat.page.evaluate("addEventListener('close', (event) => event.isTrusted || console.log('closed'), true)")
        dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.get_by_role("heading", name="This key is not accepted")).to_be_visible()
    dialog.get_by_role("button", name="Not now").click()
    expect(dialog).to_have_count(0)


def test_what_is_committed_is_what_the_sources_give(libraries: Path) -> None:
    npm = shutil.which("npm")
    assert npm is not None
    done = subprocess.run(
        [npm, "run", "--silent", "check"], cwd=PAGE, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
