"""What tests of stored responses have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai

from infra.settings import ApiKey, Responses, Security, Sessions, Settings
from tests.web.conftest import MODEL, settings_with

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer

Json = dict[str, Any]

WEATHER: Json = {
    "type": "function", "name": "weather", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip
OSLO = {"name": "weather", "arguments": '{"city": "Oslo"}'}
TOO_LONG = b'{"error": {"message": "the request exceeds the available context size, try increasing it", "code": 400}}'
"""What an engine answers (400)."""
KEYS = {name: f"sk-{name}-{name * 8}" for name in ("ann", "bob")}


def ask(text: str = "hi", *, says: str | None = None, script: Json | None = None, **more: Any) -> Json:
    """The arguments of `responses.create`. `says`: what the scripted engine answers."""
    told = {} if says is None else {"text": says}
    return {"model": MODEL, "input": text, "extra_body": {"x_scripted": told | (script or {})}, **more}


def seen(engine: ScriptedServer) -> list[Json]:
    """The messages that the engine was sent last."""
    messages: list[Json] = engine.state()["requests"][-1]["body"]["messages"]
    return messages


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str) -> Json:
    return {"role": "assistant", "content": text}


def configured(*, keys: bool = False, wait: float = 10.0, **responses: Any) -> Settings:
    """`keys`: each of KEYS is one. `wait`: seconds, for a conversation."""
    known = tuple(ApiKey(key=key, name=name) for name, key in KEYS.items()) if keys else ()
    return settings_with().model_copy(
        update={
            "security": Security(enable_auth=keys, api_keys=known), "responses": Responses(**responses),
            "sessions": Sessions(turn_wait_seconds=wait),
        }
    )  # fmt: skip


async def eventually(client: openai.AsyncOpenAI, response_id: str) -> Any:
    """A response that is being stored while its caller, who has left, knows nothing of it."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await client.responses.retrieve(response_id)
            except openai.NotFoundError:
                await asyncio.sleep(0.01)
