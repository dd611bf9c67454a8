"""What can be done with chats: found, named, exported, rolled back, set up each in its own way, in several tabs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.page.browser import Chat, tab

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Request

    from tests.functions.test_standalone import Standalone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def asked(chat: Chat) -> list[dict[str, Any]]:
    """The bodies of the questions that this tab sends from now on."""
    bodies: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if request.url.endswith("/chat/completions"):
            bodies.append(json.loads(request.post_data or "{}"))

    chat.page.on("request", note)
    return bodies


def test_chats_are_found_by_words_of_their_titles_and_renamed(chat: Chat) -> None:
    for question in ("Apples and pears", "Stars and planets"):
        chat.ask(question)
        chat.answered()
        chat.page.get_by_role("button", name="New chat").click()
    chat.page.keyboard.press("Control+k")
    search = chat.page.get_by_role("searchbox", name="Search chats")
    expect(search).to_be_focused()
    search.fill("PLANETS stars")
    expect(chat.page.locator(".chats a")).to_have_text(["Stars and planets"])
    chat.page.locator(".chats a").click()
    chat.row.get_by_role("button").click()
    chat.page.get_by_role("menuitem", name="Rename").click()
    chat.page.get_by_role("textbox", name="Title").fill("Astronomy")
    chat.page.keyboard.press("Enter")
    search.fill("astro")
    expect(chat.page.locator(".chats a")).to_have_text(["Astronomy"])
    chat.page.reload()
    expect(chat.page.get_by_role("heading", level=1)).to_have_text("Astronomy")


@pytest.mark.parametrize(("format", "suffix"), [("JSON", ".json"), ("Markdown", ".md")])
def test_a_chat_is_exported(chat: Chat, format: str, suffix: str) -> None:  # noqa: A002
    chat.ask("Keep this elsewhere")
    chat.answered()
    chat.row.get_by_role("button").click()
    with chat.page.expect_download() as download:
        chat.page.get_by_role("menuitem", name=f"Export as {format}").click()
    assert download.value.suggested_filename == f"Keep-this-elsewhere{suffix}"
    text = Path(download.value.path()).read_text()
    assert "Keep this elsewhere" in text
    assert "t0 t1 t2" in text


def test_a_deleted_chat_is_gone_for_good_once_its_time_to_be_taken_back_is_over(
    chat: Chat, context: BrowserContext, service: Standalone
) -> None:
    chat.ask("Gone for good")
    chat.answered()
    session = chat.page.url.rpartition("/")[2]
    chat.row.get_by_role("button").click()
    with chat.page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        chat.page.get_by_role("menuitem", name="Delete").click()
    assert deleted.value.status == 200
    other = tab(context, service.url, f"#/chat/{session}")
    expect(other.page.get_by_role("heading", name="This chat is not there any more")).to_be_visible()


def test_a_page_that_is_left_deletes_at_once_what_was_to_be_deleted(chat: Chat, service: Standalone) -> None:
    chat.ask("Deleted in passing")
    chat.answered()
    session = chat.page.url.rpartition("/")[2]
    chat.row.get_by_role("button").click()
    chat.page.get_by_role("menuitem", name="Delete").click()
    expect(chat.page.get_by_role("button", name="Undo")).to_be_visible()
    chat.page.reload()
    expect(chat.page.get_by_role("link", name="Deleted in passing")).to_have_count(0)
    assert session not in service.get("/sessions")


def test_messages_are_rolled_back_and_taken_back_in_time(chat: Chat, service: Standalone) -> None:
    for number, question in enumerate(("One", "Two"), start=1):
        chat.ask(question)
        chat.answered(number)
    chat.page.locator(".question").nth(1).hover()
    chat.page.get_by_role("button", name="Roll back to here").nth(1).click()
    expect(chat.questions).to_have_text(["One"])
    expect(chat.box).to_have_value("Two")
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.questions).to_have_text(["One", "Two"])
    expect(chat.box).to_have_value("")
    chat.page.locator(".question").nth(1).hover()
    chat.page.get_by_role("button", name="Roll back to here").nth(1).click()
    chat.ask("Three")  # which does at once what was pending
    chat.answered(2)
    session = chat.page.url.rpartition("/")[2]
    told = [message["content"] for message in service.get(f"/chat/history/{session}") if message["role"] == "user"]
    assert told == ["One", "Three"]


def test_settings_are_each_chats_own_and_go_back(chat: Chat) -> None:
    bodies = asked(chat)
    page = chat.page
    page.keyboard.press("Control+,")
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_label("Top-p").fill("0.5")
    page.get_by_label("Top-k").fill("7")
    page.get_by_label("Max tokens").fill("33")
    page.get_by_label("Repetition penalty").fill("1.2")
    page.get_by_label("Stop", exact=True).fill("END\n\\n\\n")
    page.get_by_label("Device").select_option("cuda")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_role("button", name="Close settings").click()
    chat.ask("Hello")
    chat.answered()
    wanted = {
        "temperature": 1.5, "top_p": 0.5, "top_k": 7, "max_tokens": 33, "repeat_penalty": 1.2, "stop": ["END", "\n\n"],
        "device": "cuda", "system_prompt": "Be brief.", "model": "steady",
    }  # fmt: skip
    assert {name: bodies[-1].get(name) for name in wanted} == wanted
    expect(page.locator(".answer .hint")).to_contain_text("'cuda' is not there")
    page.reload()
    expect(chat.answers).to_have_count(1)
    page.keyboard.press("Control+,")
    expect(page.get_by_label("Temperature")).to_have_value("1.5")
    expect(page.get_by_label("System prompt")).to_have_value("Be brief.")
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_label("Temperature")).to_have_value("0.7")
    page.get_by_role("button", name="Close settings").click()
    page.get_by_role("button", name="New chat").click()
    chat.ask("Hello again")
    chat.answered()
    assert bodies[-1]["temperature"] == 0.7
    assert "system_prompt" not in bodies[-1]


def test_a_reload_in_the_middle_of_an_answer_loses_nothing(chat: Chat) -> None:
    chat.script(gap=0.05, tokens=2000)
    chat.ask("A long story")
    expect(chat.answers).to_contain_text("t5")
    chat.page.reload()
    expect(chat.questions).to_have_text("A long story")
    expect(chat.answers).to_contain_text("t5")
    expect(chat.page.locator(".mark")).to_contain_text("Stopped here")


def test_another_tab_sees_an_answer_once_it_has_ended(chat: Chat, context: BrowserContext, service: Standalone) -> None:
    chat.script(ttft=3.0, tokens=5)
    chat.ask("Watched from elsewhere")
    expect(chat.row).to_be_visible()
    other = tab(context, service.url, chat.page.url.removeprefix(service.url + "/"))
    expect(other.page.get_by_text("No answer is here yet")).to_be_visible()
    expect(other.answers).to_contain_text("t4")


def test_files_of_text_go_with_a_message_and_images_where_the_model_sees(chat: Chat) -> None:
    bodies = asked(chat)
    picker = chat.page.locator("input[type=file]")
    picker.set_input_files({"name": "notes.py", "mimeType": "text/x-python", "buffer": b"print('```')\n"})
    picker.set_input_files({"name": "dot.png", "mimeType": "image/png", "buffer": DOT})
    expect(chat.page.get_by_text("this model does not see images")).to_be_visible()
    expect(chat.page.locator(".attachments li")).to_have_count(1)
    chat.ask("Look at this")
    chat.answered()
    assert bodies[-1]["prompt"] == "Look at this\n\nAttached file: notes.py\n````py\nprint('```')\n````"
    expect(chat.page.locator(".question summary")).to_contain_text("notes.py")
    chat.page.get_by_role("button", name="New chat").click()
    chat.choose("sees")
    picker.set_input_files({"name": "dot.png", "mimeType": "image/png", "buffer": DOT})
    expect(chat.page.locator(".attachments img")).to_be_visible()
    chat.ask("And at this")
    chat.answered()
    assert bodies[-1]["images"][0].startswith("data:image/jpeg;base64,")
    chat.page.reload()
    expect(chat.page.get_by_role("img", name="Attached image 1")).to_be_visible()


DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8"
    "cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
