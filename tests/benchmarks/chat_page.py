"""What the chat page costs a browser: its first load, a long answer while it streams, a long chat while it scrolls.

    python -m tests.benchmarks.chat_page

Chromium, headless, without a GPU, on this machine, against the service on the same machine: the figures are of both.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.functions.test_standalone import Standalone, running
from tests.page.browser import Chat, chromium, launched, tab
from tests.page.conftest import MODELS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

TOKENS = 2000
GAP = 0.008
MESSAGES = 500
WATCH = """() => {
    window.long = [];
    new PerformanceObserver(list => window.long.push(...list.getEntries().map(task => task.duration)))
        .observe({entryTypes: ["longtask"]});
    window.frames_seen = [];
    const frame = now => { window.frames_seen.push(now); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
}"""
MARKDOWN = (
    "## Part {n}\n\nSome **bold** words and `code` in paragraph {n}, which is of a usual length for an answer, or so "
    "one hopes.\n\n- one\n- two\n- three\n\n```python\ndef f{n}(x: int) -> int:\n    return x + {n}\n```\n\n"
)


def words(count: int) -> str:
    """An answer of about so many words, in Markdown."""
    text = "".join(MARKDOWN.format(n=n) for n in range(count // 30))
    return " ".join(text.split(" ")[:count])


def first_load(browser: Browser, service: Standalone) -> dict[str, Any]:
    """Of a browser that has never been here: bytes over the wire, milliseconds until something, and all, is shown."""
    context = browser.new_context()
    chat = tab(context, service.url)
    chat.page.wait_for_selector(".model")
    told = chat.page.evaluate("""() => {
        const files = performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"));
        const own = files.filter(file => file.name.includes("/static/") || file.entryType === "navigation");
        const paint = performance.getEntriesByName("first-contentful-paint")[0];
        return {files: own.length, bytes: own.reduce((sum, file) => sum + file.transferSize, 0),
                first_paint_ms: Math.round(paint ? paint.startTime : -1), whole_ms: Math.round(performance.now())};
    }""")
    context.close()
    return dict(told)


def told_of_frames(chat: Chat) -> dict[str, Any]:
    long, frames = chat.page.evaluate("[window.long, window.frames_seen]")
    gaps = [later - earlier for earlier, later in itertools.pairwise(frames)]
    return {
        "long_tasks": len(long), "longest_task_ms": round(max(long, default=0)), "frames": len(frames),
        "frame_median_ms": round(statistics.median(gaps), 1) if gaps else None,
        "frame_p99_ms": round(statistics.quantiles(gaps, n=100)[98], 1) if len(gaps) > 99 else None,
    }  # fmt: skip


def long_answer(browser: Browser, service: Standalone) -> dict[str, Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    chat = tab(context, service.url)
    chat.script(tokens=5)
    chat.ask("A first question, that all is loaded")
    chat.answered()
    chat.script(text=words(TOKENS), gap=GAP)
    chat.page.evaluate(WATCH)
    chat.page.get_by_role("textbox", name="Message").fill("A long answer")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_selector(".answer.streaming")
    chat.page.wait_for_selector(".answer.streaming", state="detached", timeout=180_000)
    told = told_of_frames(chat)
    context.close()
    return told


def long_chat(browser: Browser, service: Standalone) -> dict[str, Any]:
    """Of a chat with many messages: milliseconds until all are drawn, and how it scrolls."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    told = [
        {"role": "assistant" if n % 2 else "user", "content": MARKDOWN.format(n=n) if n % 2 else f"Question {n}"}
        for n in range(MESSAGES)
    ]

    def messages(route: Route) -> None:
        route.fulfill(content_type="application/json", body=json.dumps(told))

    page.route("**/messages", messages)
    page.goto(f"{service.url}/#/chat/long")
    expect(page.locator(".message")).to_have_count(MESSAGES, timeout=120_000)
    drawn = page.evaluate("Math.round(performance.now())")
    page.evaluate(WATCH)
    for _ in range(120):
        page.mouse.move(700, 400)
        page.mouse.wheel(0, -300)
        page.wait_for_timeout(16)
    result = {"all_drawn_ms": drawn, **told_of_frames(Chat(page, service.url))}
    context.close()
    return result


def main() -> None:
    if chromium() is None:
        raise SystemExit("there is no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        limits = {"LIMITS__MAX_RESPONSE_TOKENS": "100000"}
        with running(Path(folder) / "log", MODELS[:1], **limits) as service:
            for browser in launched():
                print("first load     ", first_load(browser, service))
                print("first load     ", first_load(browser, service))
                print(f"{TOKENS} tokens    ", long_answer(browser, service))
                print(f"{MESSAGES} messages   ", long_chat(browser, service))


if __name__ == "__main__":
    main()
