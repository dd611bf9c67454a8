"""The web endpoint's container: builds the application before the memory snapshot, and hands it to Modal."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import modal

from functions.directory import ServerDirectory
from functions.logs import configure_logging
from infra.configuration import load_settings
from web.application import create_application
from web.services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp


class Endpoint:
    """The web function. `app.py` registers a subclass that knows the engines' Servers by model id."""

    servers: ClassVar[Mapping[str, modal.Server]] = {}

    @modal.enter(snap=True)
    def build(self) -> None:
        settings = load_settings()
        configure_logging(settings.server)
        urls: dict[str, str] = {}
        for model_id, server in self.servers.items():
            url = server.get_url()
            if url is None:
                raise RuntimeError(f"Modal gives no address for the Server of model {model_id!r}")
            urls[model_id] = url
        self.application = create_application(
            Services(
                settings=settings,
                engines=ServerDirectory(settings, urls),
                coalesce_seconds=settings.web.coalesce_seconds,
            )
        )

    @modal.asgi_app()
    def web(self) -> ASGIApp:
        return self.application
