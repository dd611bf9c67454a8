"""The table of leases in a test's own hands."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from infra.aws import ConditionFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.table import Condition, Item, Key


class TableInMemory:
    """`update` and `get` of `infra.table.Table`, done at once. `calls` counts them, and the writes that came in the way
    of another."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.calls: Counter[str] = Counter()

    async def get(self, key: Key) -> Item | None:
        self.calls["get"] += 1
        return self.items.get(key.pk)

    async def update(self, key: Key, **change: Any) -> Item:
        return self.apply(key, **change)

    def apply(
        self, key: Key, *, set: Item, add: Mapping[str, int], remove: Sequence[str], condition: Condition,  # noqa: A002
        tell: bool = True,
    ) -> Item:  # fmt: skip
        self.calls["update"] += 1
        there = self.items.get(key.pk)
        if not holds(condition, there or {}):
            self.calls["refused"] += 1
            raise ConditionFailed(item=there if tell else None)
        item = {**(there or {}), **set}
        for name, amount in add.items():
            item[name] = item.get(name, 0) + amount
        for name in remove:
            item.pop(name, None)
        self.items[key.pk] = item
        return item


def holds(condition: Any, item: Item) -> bool:
    """Whether a condition of boto3's does, of those that leases use."""
    told = condition.get_expression()
    operator, (first, *rest) = told["operator"], told["values"]
    if operator in ("AND", "OR"):
        found = [holds(one, item) for one in (first, *rest)]
        return all(found) if operator == "AND" else any(found)
    value: Any = item
    for name in first.name.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if operator == "attribute_not_exists":
        return value is None
    return value is not None and {"=": value == rest[0], "<=": operator == "<=" and value <= rest[0]}[operator]
