"""The browser that is on this machine, and the chat page in it as a person meets it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "there is no Chromium here, which shows the chat page to these tests: "
    "`apt-get install chromium` (Debian), or CHROMIUM=/path/to/it"
)
PATIENCE = 30_000
"""Milliseconds that anything on the page may take on a busy machine."""


def chromium() -> str | None:
    """Its program."""
    return os.environ.get("CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)


def launched() -> Iterator[Browser]:
    """One browser. Its driver holds the thread's event loop: no asynchronous test may run until it has ended."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Chat:
    """The page in one tab."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    """What the page itself failed at, and what its policy kept it from."""

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    @property
    def answers(self) -> Locator:
        return self.page.locator(".answer .markdown")

    @property
    def questions(self) -> Locator:
        return self.page.locator(".question .bubble")

    @property
    def row(self) -> Locator:
        """The open chat, in the list of chats."""
        return self.page.locator(".chats li.here")

    def choose(self, model: str) -> None:
        self.page.get_by_role("button", name="Settings", exact=True).click()
        self.page.get_by_label("Model", exact=True).select_option(model)
        self.page.get_by_role("button", name="Close settings").click()

    def ask(self, text: str) -> None:
        self.box.fill(text)
        self.page.get_by_role("button", name="Send").click()

    def answered(self, count: int = 1) -> None:
        """Wait until so many answers are there, the last one complete."""
        expect(self.answers).to_have_count(count)
        expect(self.page.locator(".answer").last).to_have_attribute("aria-busy", "false")

    def script(self, **script: Any) -> None:
        """What the scripted engine is to do with the questions of this tab, if they go by server-sent events."""

        def scripted(route: Route) -> None:
            body = json.loads(route.request.post_data or "{}")
            route.continue_(post_data=json.dumps({**body, "x_scripted": script, "max_tokens": 100_000}))

        self.page.unroute("**/chat/completions")
        self.page.route("**/chat/completions", scripted)


def tab(context: BrowserContext, url: str, path: str = "") -> Chat:
    """Another tab with the page."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    chat = Chat(page, url)
    page.on("pageerror", lambda error: chat.complaints.append(str(error)))
    page.on(
        "console",
        lambda said: chat.complaints.append(said.text) if "Content Security Policy" in said.text else None,
    )
    page.goto(url + "/" + path)
    expect(page.locator(".frame")).to_be_visible()
    return chat


if __name__ == "__main__" and chromium() is None:
    print(f"The tests of the chat page are skipped: {MISSING}")
