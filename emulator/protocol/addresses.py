"""Which web addresses a function has, under which label and with which protection; and the seam to the ingress."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modal_proto import api_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.state import App, FunctionRecord

MAX_LABEL = 63


@dataclass(frozen=True)
class Address:
    """One thing that wants to be reached by HTTP."""

    function_id: str
    method: str
    """Of a class; empty for functions and Servers."""
    label: str
    requires_proxy_auth: bool
    is_server: bool

    @property
    def public(self) -> bool:
        """Whether it is one that people ask: a web function, or a Server that takes anybody."""
        return not self.is_server or not self.requires_proxy_auth


class Front(Protocol):
    """Where addresses are served."""

    async def reserve(self, address: Address) -> str:
        """The URL that the address will have once it is published. Nothing that is served now changes."""

    async def publish(self, record: FunctionRecord, addresses: Sequence[Address]) -> None:
        """Serve a function at these addresses, which have been reserved, and at no others."""

    async def give_up(self, function_id: str) -> None:
        """Let go of what was reserved for a function and not published."""

    async def withdraw(self, function_id: str) -> None:
        """Stop serving a function's addresses, and let go of what was reserved for it."""


def addresses(app: App, record: FunctionRecord, definition: api_pb2.Function) -> list[Address]:
    """Every address that a definition asks for."""
    if definition.is_server:
        label = _label(app, record.tag)
        protected = not definition.http_config.unauthenticated
        return [Address(record.function_id, "", label, protected, is_server=True)]
    webhooks = {"": definition.webhook_config}
    webhooks |= {name: method.webhook_config for name, method in definition.method_definitions.items()}
    name = record.tag.removesuffix(".*")
    return [
        Address(
            record.function_id,
            method,
            _label(app, "-".join(filter(None, (name, method))), requested=webhook.requested_suffix),
            webhook.requires_proxy_auth,
            is_server=False,
        )
        for method, webhook in webhooks.items()
        if webhook.type != api_pb2.WEBHOOK_TYPE_UNSPECIFIED
    ]


def _label(app: App, name: str, *, requested: str = "") -> str:
    text = requested or f"{app.name or app.description}-{name}"
    if app.state == api_pb2.APP_STATE_EPHEMERAL:
        text += "-dev"
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:MAX_LABEL]
