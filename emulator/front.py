"""The protocol's addresses, served by the ingress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.scheduler.web import WebFunction, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.ingress.ingress import Ingress
    from emulator.protocol.addresses import Address
    from emulator.scheduler.calls import Calls
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import FunctionRecord


class IngressFront:
    """Implements `Front`: one site of the ingress for each address, re-registered only when something changed."""

    def __init__(
        self, ingress: Ingress, *, calls: Calls, scheduler: Scheduler, read_blob: Callable[[str], bytes]
    ) -> None:
        self._ingress = ingress
        self._calls = calls
        self._scheduler = scheduler
        self._read_blob = read_blob
        self._served: dict[str, tuple[Address, str]] = {}

    async def publish(self, record: FunctionRecord, address: Address) -> str:
        # The label is the key: unique here as on Modal, where the last deploy takes it, and the same after a restart of
        # the app, so that the port stays.
        key = address.label
        known = self._served.get(key)
        if known is not None and known[0] == address:
            return known[1]
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
                ),
                requires_proxy_auth=address.requires_proxy_auth,
            )
        self._served[key] = (address, url)
        return url

    async def withdraw(self, function_id: str) -> None:
        for key in [key for key, (address, _) in self._served.items() if address.function_id == function_id]:
            del self._served[key]
            await self._ingress.remove(key)

    def ports(self) -> list[int]:
        """Ports on which something is served now."""
        return [int(url.rpartition(":")[2]) for _, url in self._served.values()]
