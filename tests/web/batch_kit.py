"""What tests of batches have in common: input files, and what is in the files that come of them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from tests.web.conftest import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    import openai
    from openai.types import Batch

CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


def request(name: str, text: str = "one two", *, url: str = CHAT, **body: Any) -> dict[str, Any]:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **body}
    return {"custom_id": name, "method": "POST", "url": url, "body": asked}


def lines(requests: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in requests)


async def begun(sdk: openai.AsyncOpenAI, content: bytes, *, endpoint: str = CHAT, **more: Any) -> Batch:
    file = await sdk.files.create(file=("in.jsonl", content), purpose="batch")
    given: Any = {"input_file_id": file.id, "endpoint": endpoint, "completion_window": "24h", **more}
    return await sdk.batches.create(**given)


async def become(sdk: openai.AsyncOpenAI, batch_id: str, *statuses: str, seconds: float = 40) -> Batch:
    """The batch, once it is one of these (or else over: none given)."""
    async with asyncio.timeout(seconds):
        while (batch := await sdk.batches.retrieve(batch_id)).status not in (statuses or OVER):
            assert batch.status not in OVER, batch
            await asyncio.sleep(0.05)  # each look costs the other end as much as it costs this one
    return batch


async def told(sdk: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file; none where there is none."""
    if file_id is None:
        return []
    content = (await sdk.files.content(file_id)).content
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def said(line: dict[str, Any]) -> str:
    """What the model has answered."""
    return str(line["response"]["body"]["choices"][0]["message"]["content"])
