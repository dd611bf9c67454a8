"""The protocol's addresses, served by the ingress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.backends import WebFunction, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from emulator.ingress.ingress import Ingress
    from emulator.protocol.addresses import Address
    from emulator.protocol.tokens import ShortTokens
    from emulator.scheduler.calls import Calls
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import FunctionRecord, State


class Admission:
    """Implements `Authorize`: the workspace's proxy tokens, and those that the client gets for itself."""

    def __init__(self, state: State, tokens: ShortTokens) -> None:
        self._state = state
        self._tokens = tokens

    def proxy_token(self, token_id: str, secret: str) -> bool:
        return self._state.authorizes(token_id, secret)

    def own_token(self, token: str) -> bool:
        return self._tokens.admits(token)


class IngressFront:
    """Implements `Front`: one site of the ingress for each address, re-registered only when something changed."""

    def __init__(
        self,
        ingress: Ingress,
        *,
        calls: Calls,
        scheduler: Scheduler,
        read_blob: Callable[[str], bytes],
        bind: Callable[[FunctionRecord, bytes], FunctionRecord],
    ) -> None:
        self._ingress = ingress
        self._calls = calls
        self._scheduler = scheduler
        self._read_blob = read_blob
        self._bind = bind
        self._served: dict[str, tuple[Address, str]] = {}
        self._reserved: dict[str, set[str]] = {}
        """By key, the functions that are about to be served there."""

    def holder(self, label: str) -> str:
        return self._served[label][0].function_id if label in self._served else ""

    def domain_url(self, domain: str) -> str:
        return f"http://{domain}:{self._ingress.url.rpartition(':')[2]}"

    async def reserve(self, address: Address) -> str:
        # The label is the key: unique here as on Modal, where the last deploy takes it, and the same after a restart of
        # the app, so that the port stays.
        url = await self._ingress.reserve(address.label, public=address.public)
        self._reserved.setdefault(address.label, set()).add(address.function_id)
        return url

    async def publish(self, record: FunctionRecord, addresses: Sequence[Address]) -> None:
        for address in addresses:
            known = self._served.get(address.label)
            if known is None or known[0] != address:
                await self._serve(record, address)
        kept = {address.label for address in addresses}
        await self._stop_serving(record.function_id, but=kept)
        await self.give_up(record.function_id)

    async def _serve(self, record: FunctionRecord, address: Address) -> None:
        key = address.label
        if address.is_server:
            url = await self._ingress.add_server(
                key,
                label=address.label,
                backend=WebServer(record, self._scheduler),
                requires_proxy_auth=address.requires_proxy_auth,
            )
        else:
            url = await self._ingress.add_function(
                key,
                label=address.label,
                backend=WebFunction(
                    record,
                    address.method,
                    calls=self._calls,
                    scheduler=self._scheduler,
                    read_blob=self._read_blob,
                    bind=self._bind,
                ),
                requires_proxy_auth=address.requires_proxy_auth,
                domains=address.domains,
            )
        self._served[key] = (address, url)

    async def give_up(self, function_id: str) -> None:
        for key in [key for key, claimants in self._reserved.items() if function_id in claimants]:
            self._reserved[key].discard(function_id)
            if not self._reserved[key]:
                del self._reserved[key]
                if key not in self._served:
                    await self._ingress.remove(key)

    async def withdraw(self, function_id: str) -> None:
        await self.give_up(function_id)
        await self._stop_serving(function_id)

    async def _stop_serving(self, function_id: str, *, but: Collection[str] = ()) -> None:
        for key, (address, _) in list(self._served.items()):
            if address.function_id == function_id and key not in but:
                del self._served[key]
                await self._ingress.remove(key)
                if key in self._reserved:
                    await self._ingress.reserve(key, public=address.public)

    def ports(self) -> list[int]:
        """Ports on which something is served now."""
        return [int(url.rpartition(":")[2]) for _, url in self._served.values()]
