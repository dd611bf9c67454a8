"""The one internal request that every client's dialect becomes, and that every engine's dialect is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["chat", "text"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """A request for tokens, validated. Its vocabulary is OpenAI's, since that is what engines speak."""

    kind: Kind
    """`chat`: messages, answered by a message. `text`: a prompt, continued."""
    model: str
    """As the caller named it: an id or a name; answers repeat it."""
    fields: Mapping[str, Any]
    """What the engine is to honour: OpenAI's names plus `top_k`, `min_p`, `repetition_penalty` and
    `continue_final_message` (the last message is the beginning of the answer); no nulls, one name a meaning
    (`max_tokens`, the role `system`)."""
    choices: int = 1
    """How many answers there will be: `n`, times the number of prompts."""
    stream: bool = False
    include_usage: bool = False
    affinity: str | None = None
    """Requests that share a prefix share this: they should meet the same engine container."""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """Fields that are nobody's here. Engines do not see them; test engines may."""
    prompt_field: str | None = None
    """What its caller calls the prompt, if not by OpenAI's name: `prompt_name` is for errors."""
    remembered: int = 0
    """How many messages are the service's own memory (a session's, a stored response's): what limits a caller's prompt
    does not measure them."""
    introduced: int = 0
    """How many messages of the caller's own come before those: a new system prompt."""

    @property
    def prompt_name(self) -> str:
        """What its caller calls the prompt."""
        return self.prompt_field or ("messages" if self.kind == "chat" else "prompt")
