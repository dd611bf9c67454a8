"""Where the web endpoint finds the engines that app.py registered as Modal Servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from infra.secrets import ENGINE_API_KEY, PROXY_TOKEN_ID, PROXY_TOKEN_SECRET
from web.engines import EngineTarget
from web.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings


class ServerDirectory:
    """An `EngineDirectory` of Servers: model id -> the Server's address.

    Credentials come from the environment when they are first needed, not before: the application is built before the
    memory snapshot, and nothing that belongs to one container may be in it.
    """

    def __init__(self, settings: Settings, urls: Mapping[str, str]) -> None:
        self._settings = settings
        self._urls = urls
        self._targets: dict[str, EngineTarget] = {}

    def resolve(self, label: str) -> EngineTarget:
        """See `EngineDirectory.resolve`."""
        models = self._settings.models
        model = models.find(label)
        if model is None:
            raise ModelNotFound(label)
        if model.id not in self._targets:
            self._targets[model.id] = EngineTarget(
                url=self._urls[model.id].rstrip("/"),
                kind=model.engine_for(models, self._settings.deploy.target),
                model=model.id,
                headers=_credentials(os.environ),
            )
        return self._targets[model.id]


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """What a Server's proxy and the engine behind it ask for."""
    return {
        "Modal-Key": environment[PROXY_TOKEN_ID],
        "Modal-Secret": environment[PROXY_TOKEN_SECRET],
        "Authorization": f"Bearer {environment[ENGINE_API_KEY]}",
    }
