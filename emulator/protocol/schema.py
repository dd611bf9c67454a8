"""Messages of the installed client, whichever it is: those of 1.5 lack some fields that those of 1.6 have. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

    M = TypeVar("M", bound=Message)


def has_field(message: Message | type[Message], name: str) -> bool:
    """Whether messages of that kind have such a field, set or not."""
    return name in message.DESCRIPTOR.fields_by_name


def made(kind: type[M], **fields: Any) -> M:
    """A message with those of the fields that its kind has: for what an older client would not look for anyway."""
    return kind(**{name: value for name, value in fields.items() if has_field(kind, name)})
