"""What tests of the table's keys have in common: an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.settings import ApiKey, Security, Settings
from tests.web.conftest import settings_with

if TYPE_CHECKING:
    import aiohttp

ROOT = "sk-root-of-the-configuration-0123456789"


def with_keys(*, static: bool = True) -> Settings:
    """Settings that ask for keys. `static`: of which ROOT, an administrator's, is configured."""
    keys = (ApiKey(key=ROOT, name="root", scopes=("admin", "inference")),) if static else ()
    return settings_with().model_copy(update={"security": Security(enable_auth=True, api_keys=keys)})


class Administrator:
    """Asks `/admin/keys` with a key of his own."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str = ROOT) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def __call__(self, method: str, *path: str, body: Any = None, status: int = 200, **query: Any) -> Any:
        where = "/".join([f"{self._url}/admin/keys", *path])
        async with self._http.request(method, where, json=body, params=query, headers=self._headers) as response:
            told = await response.json()
            assert response.status == status, told
            return told

    async def make(self, name: str = "k", **terms: Any) -> Any:
        return await self("POST", body={"name": name, **terms}, status=201)
