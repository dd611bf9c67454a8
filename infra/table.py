"""The service's one DynamoDB table and its bucket, as asynchronous operations on items and objects.

Items are dictionaries of Python values (numbers come back as `Decimal`, bytes as boto3's `Binary`), keyed by `pk` and
`sk`; conditions are boto3's own condition objects. What the table looks like is `infra.blueprint`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from infra.bucket import Bucket as Bucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.aws import Clients

Item = dict[str, Any]
Condition = Any
"""`boto3.dynamodb.conditions.ConditionBase`; boto3 is not imported before it is used."""

RECENT = "recent"
"""The index of one `pk`'s items by when they were last used."""
DUE = "due"
"""The index of all items that have something to be done with, by what (attribute `due`) and when (`due_at`)."""

_TELL = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


@dataclass(frozen=True)
class Key:
    pk: str
    sk: str

    def item(self) -> Item:
        return {"pk": self.pk, "sk": self.sk}


@dataclass(frozen=True)
class Put:
    item: Item
    condition: Condition = None


@dataclass(frozen=True)
class Delete:
    key: Key
    condition: Condition = None


@dataclass(frozen=True)
class Add:
    """Add to the number `attribute` (which begins at 0), unless it is at `below` or above then."""

    key: Key
    attribute: str
    amount: int
    below: int | None = None


@dataclass(frozen=True)
class Change:
    """Set and remove attributes of an item, which is made if there is none."""

    key: Key
    set: Mapping[str, Any]
    remove: Sequence[str] = ()
    condition: Condition = None


Write = Put | Delete | Add | Change


class Table:
    """Every method raises StateUnavailable; those that write under a condition raise ConditionFailed."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self._name = name

    async def get(self, key: Key, *, attributes: Sequence[str] = (), consistent: bool = True) -> Item | None:
        """The item, or those attributes of it. Not `consistent`: at half the price, maybe a moment old."""
        projection: dict[str, Any] = {}
        if attributes:
            names = {f"#{n}": name for n, name in enumerate(attributes)}
            projection = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        answer = await self._call("get_item", Key=key.item(), ConsistentRead=consistent, **projection)
        return answer.get("Item")

    async def put(self, item: Item, *, condition: Condition = None) -> Item | None:
        """Returns the item in whose place it was put."""
        answer = await self._call("put_item", Item=item, ReturnValues="ALL_OLD", **_conditional(condition))
        return answer.get("Attributes")

    async def update(
        self,
        key: Key,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - as DynamoDB calls it
        add: Mapping[str, int | Decimal] | None = None,
        remove: Sequence[str] = (),
        condition: Condition = None,
        tell: bool = False,
    ) -> Item:
        """Change attributes of one item, which is made if there is none; returns it as it is then. `add`: to numbers,
        which begin at 0; that may happen twice where the first answer is lost, unless the condition rules it out.
        `tell`: where the condition fails, ConditionFailed has the item that is there."""
        told = _updating(set or {}, add or {}, remove, condition)
        if tell:
            told |= _TELL
        answer = await self._call("update_item", Key=key.item(), ReturnValues="ALL_NEW", **told)
        item: Item = answer["Attributes"]
        return item

    async def delete(self, key: Key, *, condition: Condition = None) -> Item | None:
        """Returns the item that was there."""
        answer = await self._call("delete_item", Key=key.item(), ReturnValues="ALL_OLD", **_conditional(condition))
        return answer.get("Attributes")

    async def transact(self, writes: Sequence[Write]) -> None:
        """All of them, or none. Raises ConditionFailed with a reason for each."""
        await self._clients.call(
            "dynamodb", "transact_write_items", TransactItems=[self._transacted(write) for write in writes]
        )

    async def recent(self, pk: str, *, attributes: Sequence[str]) -> list[Item]:
        """Those attributes of all of a `pk`'s items that were ever used, the last used first."""
        from boto3.dynamodb.conditions import Key as KeyCondition

        names = {f"#{n}": name for n, name in enumerate(attributes)}
        return await self._query(
            IndexName=RECENT, KeyConditionExpression=KeyCondition("pk").eq(pk), ScanIndexForward=False,
            ConsistentRead=True, ProjectionExpression=", ".join(names), ExpressionAttributeNames=names,
        )  # fmt: skip

    async def query(
        self, pk: str, *, prefix: str = "", after: str | None = None, limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Item]:  # fmt: skip
        """The items of a `pk` whose `sk` begins with `prefix`, by their `sk` (`newest_first`: the highest first): those
        that come after the `sk` `after`, whether that is still there or not; at most `limit`, all unless given."""
        from boto3.dynamodb.conditions import Key as KeyCondition

        if after is not None and not after.startswith(prefix):
            raise ValueError(f"{after!r} does not begin with {prefix!r}")
        condition: Condition = KeyCondition("pk").eq(pk)
        if prefix:
            condition &= KeyCondition("sk").begins_with(prefix)
        start = {} if after is None else {"ExclusiveStartKey": Key(pk, after).item()}
        return await self._query(
            limit, KeyConditionExpression=condition, ScanIndexForward=not newest_first, ConsistentRead=True, **start
        )

    async def due(self, noun: str, *, before: float, limit: int) -> list[Key]:
        """The keys of items whose `due` is `noun` and whose `due_at` (seconds since the epoch) is not after `before`,
        the earliest first. What the index tells may be a moment old: who acts on an item makes sure by a condition."""
        from boto3.dynamodb.conditions import Key as KeyCondition

        condition = KeyCondition("due").eq(noun) & KeyCondition("due_at").lte(Decimal(repr(float(before))))
        items = await self._query(limit, IndexName=DUE, KeyConditionExpression=condition)
        return [Key(item["pk"], item["sk"]) for item in items]

    async def _query(self, limit: int | None = None, **arguments: Any) -> list[Item]:
        """The items of all pages, at most `limit`."""
        found: list[Item] = []
        while limit is None or len(found) < limit:
            if limit is not None:
                arguments["Limit"] = limit - len(found)
            answer = await self._call("query", **arguments)
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                break
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return found

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return await self._clients.call("dynamodb", operation, TableName=self._name, **arguments)

    def _transacted(self, write: Write) -> dict[str, Any]:
        if isinstance(write, Put):
            return {"Put": {"TableName": self._name, "Item": write.item, **_conditional(write.condition)}}
        if isinstance(write, Delete):
            return {"Delete": {"TableName": self._name, "Key": write.key.item(), **_conditional(write.condition)}}
        if isinstance(write, Change):
            told = _updating(write.set, {}, write.remove, write.condition)
            return {"Update": {"TableName": self._name, "Key": write.key.item(), **told}}
        from boto3.dynamodb.conditions import Attr

        limit = None
        if write.below is not None:
            limit = Attr(write.attribute).not_exists() | Attr(write.attribute).lt(write.below)
        told = _updating({}, {write.attribute: write.amount}, (), limit)
        return {"Update": {"TableName": self._name, "Key": write.key.item(), **told}}


def _updating(
    changed: Mapping[str, Any], added: Mapping[str, Any], removed: Sequence[str], condition: Condition
) -> dict[str, Any]:
    """The arguments that say what is to be changed of an item, and when."""
    names: Item = {}
    values: Item = {}

    def clause(attributes: Iterable[str], form: str, given: Mapping[str, Any] | None = None) -> str:
        parts = []
        for attribute in attributes:
            name, value = f"#u{len(names)}", f":u{len(names)}"
            names[name] = attribute
            if given is not None:
                values[value] = given[attribute]
            parts.append(form.format(name=name, value=value))
        return ", ".join(parts)

    clauses = {
        "SET": clause(changed, "{name} = {value}", changed), "ADD": clause(added, "{name} {value}", added),
        "REMOVE": clause(removed, "{name}"),
    }  # fmt: skip
    expression = " ".join(f"{verb} {told}" for verb, told in clauses.items() if told)
    return {"UpdateExpression": expression, **_conditional(condition, names=names, values=values)}


def _conditional(condition: Condition, *, names: Item | None = None, values: Item | None = None) -> dict[str, Any]:
    """The arguments that say a condition, beside the names and values that are there already. Spelled out here since
    boto3 does it for single writes only."""
    told: dict[str, Any] = {}
    names, values = dict(names or {}), dict(values or {})
    if condition is not None:
        from boto3.dynamodb.conditions import ConditionExpressionBuilder

        built = ConditionExpressionBuilder().build_expression(condition)
        told["ConditionExpression"] = built.condition_expression
        names |= built.attribute_name_placeholders
        values |= built.attribute_value_placeholders
    if names:
        told["ExpressionAttributeNames"] = names
    if values:
        told["ExpressionAttributeValues"] = values
    return told
