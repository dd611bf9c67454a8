"""The names that `infra.setup` and those who use what it makes agree on."""

from __future__ import annotations

from dataclasses import dataclass

PROXY_TOKEN_ID = "PROXY_TOKEN_ID"  # noqa: S105 - a variable's name
PROXY_TOKEN_SECRET = "PROXY_TOKEN_SECRET"  # noqa: S105 - a variable's name
ENGINE_API_KEY = "ENGINE_API_KEY"
HF_TOKEN = "HF_TOKEN"  # noqa: S105 - a variable's name


@dataclass(frozen=True)
class SecretNames:
    """The names of an app's Secrets."""

    web: str
    """PROXY_TOKEN_ID, PROXY_TOKEN_SECRET, ENGINE_API_KEY."""
    engine: str
    """ENGINE_API_KEY, and HF_TOKEN when one is configured."""

    @classmethod
    def of(cls, app_name: str) -> SecretNames:
        return cls(web=f"{app_name}-web", engine=f"{app_name}-engine")
