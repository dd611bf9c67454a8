"""What tests of sessions have in common: turns, and what a caller sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

from infra.settings import Limits, Model, Models, Sessions, Settings
from tests.web.conftest import MODEL

if TYPE_CHECKING:
    from tests.web.conftest import Json, RawResponse, Served
    from tests.web.doubles import Conversation, HandEngine

SYSTEM = {"role": "system", "content": "You are a helpful AI assistant."}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Json:
    return {"role": "assistant", "content": text, **more}


def turn(prompt: str = "hi", *, session: str = "s", **more: Any) -> Json:
    return {"model-name": MODEL, "prompt": prompt, "session-id": session, **more}


def configured(*, context_length: int = 4096, limits: Json | None = None, **sessions: Any) -> Settings:
    model = Model(id="scripted", name=MODEL, local_engine="scripted", context_length=context_length)
    return Settings(
        models=Models(available_models=(model,)), limits=Limits(**(limits or {})), sessions=Sessions(**sessions)
    )


async def history(served: Served, session: str = "s", **headers: str) -> Any:
    """The messages of a session, as its owner sees them."""
    path = f"{served.url}/chat/history/{quote(session, safe='')}"
    async with aiohttp.ClientSession() as http, http.get(path, headers=headers) as response:
        assert response.status == 200
        return await response.json()


async def roll_back(served: Served, session: str = "s", **request: Any) -> tuple[int, Any]:
    path = f"{served.url}/chat/history/{quote(session, safe='')}/rollback"
    async with aiohttp.ClientSession() as http, http.post(path, **request) as response:
        return response.status, await response.json()


async def ask(served: Served, *prompts: str, **more: Any) -> None:
    """Whole turns, one after the other."""
    for prompt in prompts:
        response = await served.raw(turn(prompt, **more), "/chat/completions")
        assert (await response.head())[0] == 200
        assert b"event: done" in await response.rest()


async def begin(served: Served, hand_engine: HandEngine, body: Json) -> tuple[RawResponse, Conversation]:
    response = await served.raw(body, "/chat/completions")
    talk = await hand_engine.next()
    return response, talk


async def answer(talk: Conversation, *words: str, usage: Json | None = None) -> None:
    await talk.begin()
    for word in words:
        await talk.token(word)
    await talk.token("", finish="stop")
    if usage is not None:
        await talk.event({"choices": [], "usage": usage})
    await talk.end()


def seen(talk: Conversation) -> list[Json]:
    messages: list[Json] = talk.json["messages"]
    return messages
