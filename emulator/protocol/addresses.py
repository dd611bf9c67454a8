"""Which web addresses a function has, under which label and with which protection; and the seam to the ingress."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modal_proto import api_pb2

from emulator.protocol.dispatch import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.state import App, FunctionRecord

MAX_LABEL = 63
"""Characters of one part of a host's name (RFC 1035, 2.3.4)."""

DEV_SUFFIX = "dev"


@dataclass(frozen=True)
class Address:
    """One thing that wants to be reached by HTTP."""

    function_id: str
    method: str
    """Of a class; empty for functions and Servers."""
    label: str
    requires_proxy_auth: bool
    is_server: bool
    domains: tuple[str, ...] = ()
    """Host names of the deployer's own."""

    @property
    def public(self) -> bool:
        """Whether it is one that people ask: a web function, or a Server that takes anybody."""
        return not self.is_server or not self.requires_proxy_auth


class Front(Protocol):
    """Where addresses are served."""

    def holder(self, label: str) -> str:
        """The id of the function that is served under that label now, or nothing."""

    def domain_url(self, domain: str) -> str:
        """The URL of a host name of the deployer's own."""

    async def reserve(self, address: Address) -> str:
        """The URL that the address will have once it is published. Nothing that is served now changes."""

    async def publish(self, record: FunctionRecord, addresses: Sequence[Address]) -> None:
        """Serve a function at these addresses, which have been reserved, and at no others."""

    async def give_up(self, function_id: str) -> None:
        """Let go of what was reserved for a function and not published."""

    async def withdraw(self, function_id: str) -> None:
        """Stop serving a function's addresses, and let go of what was reserved for it."""


def addresses(app: App, record: FunctionRecord, definition: api_pb2.Function) -> list[Address]:
    """Every address that a definition asks for. Raises `GRPCError` for a label that cannot be part of a host's name."""
    if definition.is_server:
        protected = not definition.http_config.unauthenticated
        return [Address(record.function_id, "", label(app, record.tag), protected, is_server=True)]
    webhooks = {"": definition.webhook_config}
    webhooks |= {name: method.webhook_config for name, method in definition.method_definitions.items()}
    name = record.tag.removesuffix(".*")
    return [
        Address(
            record.function_id,
            method,
            label(app, "-".join(filter(None, (name, method))), webhook),
            webhook.requires_proxy_auth,
            is_server=False,
            domains=tuple(domain.name.lower() for domain in webhook.custom_domains),
        )
        for method, webhook in webhooks.items()
        if webhook.type != api_pb2.WEBHOOK_TYPE_UNSPECIFIED
    ]


def label(app: App, name: str, webhook: api_pb2.WebhookConfig | None = None) -> str:
    """The app's name and the function's in lower case, or the label that was asked for, which has to be right as it is;
    with `-dev` (or `MODAL_DEV_SUFFIX`) while the app is ephemeral, behind the web suffix of its environment:
    https://modal.com/docs/guide/webhook-urls."""
    requested = webhook.requested_suffix if webhook is not None else ""
    if requested and not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", requested):
        raise invalid(
            f"Invalid label {requested!r} of {name}: only lower-case letters, digits and dashes, none at its ends"
        )
    text = requested or re.sub(r"[^a-z0-9]+", "-", f"{app.name or app.description}-{name}".lower()).strip("-")
    suffix = ""
    if app.state == api_pb2.APP_STATE_EPHEMERAL:
        given = webhook.ephemeral_suffix if webhook is not None else ""
        suffix = f"-{given or DEV_SUFFIX}".lower()
    return shortened(f"{app.web_suffix}--{text}" if app.web_suffix else text, suffix)


def shortened(text: str, suffix: str) -> str:
    """`text` and `suffix`; where they are too long, the beginning of `text` and six digits of the SHA-256 of both."""
    whole = text + suffix
    if len(whole) <= MAX_LABEL:
        return whole
    digits = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{text[: MAX_LABEL - len(suffix) - 7]}-{digits}{suffix}"
