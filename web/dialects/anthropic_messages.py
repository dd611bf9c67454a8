"""Anthropic's messages in OpenAI's words, which every engine's chat template understands. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

BETWEEN = "\n"
"""Stands between two blocks of text that become one: chat templates want strings, and some take nothing else."""


def conversation(messages: Iterable[Json], *, system: str | list[Json] | None) -> tuple[list[Json], bool]:
    """The messages, and whether the last one is to be continued: it is then the beginning of the model's answer."""
    said: list[Json] = []
    if system:
        said.append({"role": "system", "content": _joined(system)})
    for message in messages:
        match message["role"]:
            case "assistant":
                said.append(_assistant(message["content"]))
            case "system":
                said.append({"role": "system", "content": _joined(message["content"])})
            case _:
                said += _user(message["content"])
    last = said[-1]
    return said, last["role"] == "assistant" and bool(last["content"]) and "tool_calls" not in last


def _user(content: str | list[Json]) -> list[Json]:
    """A tool's results come before whatever else the user says. Images among them are shown by the user: nowhere else
    do engines take images."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    said: list[Json] = []
    own: list[Json] = []
    for block in content:
        if block["type"] != "tool_result":
            own.append(_part(block))
            continue
        parts = _result(block)
        texts = [part["text"] for part in parts if part["type"] == "text"]
        own += [part for part in parts if part["type"] != "text"]
        said.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": BETWEEN.join(texts)})
    if own or not said:
        said.append({"role": "user", "content": _content(own)})
    return said


def _result(block: Json) -> list[Json]:
    content = block.get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else [_part(part) for part in content]
    # OpenAI's messages have no place for it.
    return [{"type": "text", "text": "Error:"}, *parts] if block.get("is_error") else parts


def _assistant(content: str | list[Json]) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts = [block["text"] for block in content if block["type"] == "text"]
    thoughts = [block["thinking"] for block in content if block["type"] == "thinking"]
    calls = [_call(block) for block in content if block["type"] == "tool_use"]
    message: Json = {"role": "assistant", "content": BETWEEN.join(texts) if texts or not calls else None}
    if any(thoughts):
        message["reasoning_content"] = BETWEEN.join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Json) -> Json:
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}


def _part(block: Json) -> Json:
    source = block.get("source")
    match block["type"]:
        case "image" if source is not None:
            url = source["url"] if source["type"] == "url" else f"data:{source['media_type']};base64,{source['data']}"
            return {"type": "image_url", "image_url": {"url": url}}
        case "document" if source is not None:
            told = (block.get("title"), block.get("context"), source["data"])
            return {"type": "text", "text": BETWEEN.join(text for text in told if text)}
        case "search_result":
            found: list[str] = [block["title"], block["source"], _joined(block["content"])]
            return {"type": "text", "text": BETWEEN.join(found)}
    return {"type": "text", "text": block["text"]}


def _content(parts: list[Json]) -> str | list[Json]:
    if any(part["type"] != "text" for part in parts):
        return parts
    return BETWEEN.join(part["text"] for part in parts)


def _joined(content: str | list[Json]) -> str:
    return content if isinstance(content, str) else BETWEEN.join(block["text"] for block in content)
