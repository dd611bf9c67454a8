"""The service's bucket, as asynchronous operations on objects.

What an item keeps in an object, it names in its attribute `at`; the object tells the item in its metadata. So what was
left behind by a process that died between the two writes can be found (`infra.orphans`).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.aws import Clients
    from infra.table import Key

_ITEM = "item"
"""The metadata that names an object's item: S3 sends it as `x-amz-meta-item`."""


@dataclass(frozen=True)
class Found:
    """An object: its name, and when it was written (seconds since the epoch, by S3's clock)."""

    name: str
    written_at: float


class Bucket:
    """Every method raises StateUnavailable."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self._name = name

    async def put(self, key: str, body: bytes, *, of: Key | None = None) -> None:
        """`of`: the item that will say `key` in its attribute `at`, within an hour."""
        told = {} if of is None else {"Metadata": {_ITEM: _packed([of.pk, of.sk])}}
        await self._call("put_object", Key=key, Body=body, **told)

    async def get(self, key: str) -> bytes:
        """Raises ObjectMissing."""
        body: bytes = (await self._call("get_object", Key=key))["Body"]
        return body

    async def delete(self, key: str) -> None:
        """Harmless when there is none."""
        await self._call("delete_object", Key=key)

    async def found(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[Found]:
        """The objects whose names begin with `prefix` and come after `after`, in the order of their names: at most
        `limit`, which is at most 1000. None: there are no more."""
        answer = await self._call("list_objects_v2", Prefix=prefix, StartAfter=after, MaxKeys=limit)
        return [Found(one["Key"], one["LastModified"].timestamp()) for one in answer.get("Contents", ())]

    async def item_of(self, key: str) -> tuple[str, str] | None:
        """`pk` and `sk` of the item that an object was put for; None: for no item. Raises ObjectMissing."""
        metadata = (await self._call("head_object", Key=key)).get("Metadata", {})
        return _unpacked(metadata[_ITEM]) if _ITEM in metadata else None

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return await self._clients.call("s3", operation, Bucket=self._name, **arguments)


def _packed(names: list[str]) -> str:
    """For a header: keys may hold callers' own words."""
    return base64.urlsafe_b64encode(json.dumps(names, ensure_ascii=False).encode()).decode()


def _unpacked(text: str) -> tuple[str, str]:
    pk, sk = json.loads(base64.urlsafe_b64decode(text))
    return pk, sk
