"""Objects that nothing names: their item was never written, or replaced, and the process died before it removed them.

They cost money and nothing else, so they are looked for once a day, in portions, and none is touched that is younger
than a day: whoever has written an object names it within the hour or never.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from infra.aws import ObjectMissing
from infra.table import Key
from infra.together import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.bucket import Bucket
    from infra.table import Table

DAY = 86400.0
PORTION = 200
"""Objects that are looked at in one portion…"""
AT_ONCE = 8
"""… and of them at once."""

log = logging.getLogger(__name__)


class Orphans:
    """A job: each call looks at some of the objects under a prefix. Where it is, is an item of the table, so that it
    goes on in the next run, and begins again a day after it came to the end."""

    def __init__(self, table: Table, bucket: Bucket, *, prefix: str, time: Callable[[], float]) -> None:
        self._table = table
        self._bucket = bucket
        self._prefix = prefix
        self._time = time
        self._place = Key("job#orphans", prefix)

    async def __call__(self) -> int:
        """How many objects were looked at; 0 once all were, within the last day. Raises StateUnavailable."""
        kept = await self._table.get(self._place) or {}
        if self._time() < float(kept.get("again_at", 0)):
            return 0
        after = str(kept.get("after", ""))
        found = await self._bucket.found(self._prefix, after=after, limit=PORTION)
        if not found:
            await self._table.update(self._place, set={"again_at": int(self._time() + DAY)}, remove=["after"])
            return 0
        old = [one.name for one in found if one.written_at <= self._time() - DAY]
        await for_each(old, self._look, at_once=AT_ONCE)
        await self._table.update(self._place, set={"after": found[-1].name})
        return len(found)

    async def _look(self, name: str) -> None:
        try:
            item = await self._bucket.item_of(name)
        except ObjectMissing:
            return  # removed meanwhile, as it should be
        if item is None:
            log.warning("the object %s does not say whose it is, and is left alone", name)
            return
        kept = await self._table.get(Key(*item), attributes=("at",))
        if kept is None or kept.get("at") != name:
            log.info("the object %s was left behind by nobody knows whom, and is removed", name)
            await self._bucket.delete(name)
