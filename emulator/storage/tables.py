"""DynamoDB's tables and items as records. moto has them in memory."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import StreamShard, Table

from emulator.storage.moto_shapes import MotoShapes
from emulator.storage.plain import dumped, loaded
from emulator.storage.store import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from moto.dynamodb.models import DynamoDBBackend

    from emulator.storage.store import Store

TABLES, ITEMS = "dynamodb-table", "dynamodb-item"
_OF_TABLE = {"items", "stream_shard", "lambda_event_source_mappings"}
_READS = ("Get", "List", "Describe", "Query", "Scan", "BatchGet", "TransactGet")
_OF_TABLES_ALONE = ("Create", "Update", "Delete", "Tag", "Untag", "Put", "Enable", "Disable")

Keys = list[tuple[str, dict[str, Any]]]
"""Tables' names or ARNs, and keys of items, with or without their other attributes."""


class KeptTables:
    """One account's DynamoDB. Whoever calls holds the lock under which requests write."""

    def __init__(self, store: Store, account: str) -> None:
        self._store = store
        self._account = account
        self._shapes = MotoShapes()
        self._tables: dict[str, bytes] = {}

    # Writing

    def write(self, operation: str, request: Mapping[str, Any]) -> None:
        """Put what a request may have changed."""
        if reads(operation, request):
            return
        keys = touched(operation, request)
        if keys is None:
            self._put_tables(items=not operation.startswith(_OF_TABLES_ALONE))
            return
        for name, key in keys:
            for region, backend in self._backends():
                if (table := _table(backend, name)) is not None:
                    self._put_item(region, table, key)

    def _backends(self) -> list[tuple[str, DynamoDBBackend]]:
        return list(dynamodb_backends[self._account].items())

    def _put_tables(self, *, items: bool) -> None:
        there = set()
        for region, backend in self._backends():
            for table in list(backend.tables.values()):
                name = f"{region}/{table.name}"
                there.add(name)
                data = self._described(backend, table)
                new = name not in self._tables
                if self._tables.get(name) != data:
                    self._tables[name] = data
                    self._store.put(TABLES, name, data)
                if items or new:
                    self._put_items(region, table)
        for name in self._tables.keys() - there:
            del self._tables[name]
            self._store.delete(TABLES, name)
            self._store.delete_prefix(ITEMS, f"{name}/")

    def _described(self, backend: DynamoDBBackend, table: Table) -> bytes:
        fields = {name: value for name, value in vars(table).items() if name not in _OF_TABLE}
        return dumped([f"{type(table).__name__}", fields, backend.resource_policies.get(table.table_arn)], self._shapes)

    def _put_items(self, region: str, table: Table) -> None:
        self._store.delete_prefix(ITEMS, f"{region}/{table.name}/")
        for item in list(_items(table)):
            self._store.put(ITEMS, _place(region, table, _key_of(item)), self._written(item))

    def _put_item(self, region: str, table: Table, key: Mapping[str, Any]) -> None:
        if any(name not in key for name in table.table_key_attrs):
            return  # refused: nothing has changed
        keys = [DynamoType(key[name]) for name in table.table_key_attrs]
        item = table.get_item(keys[0], keys[1] if table.has_range_key else None)
        place = _place(region, table, keys)
        if item is None:
            self._store.delete(ITEMS, place)
        else:
            self._store.put(ITEMS, place, self._written(item))

    def _written(self, item: Item) -> bytes:
        return dumped(item.to_json()["Attributes"], self._shapes)

    # Reading

    def load(self) -> None:
        """Give moto what is kept. Raises `StateError` for what can not be understood."""
        for name, data in self._store.rows(TABLES):
            region, _, _ = name.partition("/")
            try:
                read: Any = loaded(data, self._shapes)
                kind, fields, policy = read
                backend, table = dynamodb_backends[self._account][region], self._made(kind, fields)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StateError(f"the record of the table {name} can not be read: {error!r}") from error
            backend.tables[table.name] = table
            if policy is not None:
                backend.resource_policies[table.table_arn] = policy
            self._tables[name] = data
        for place, data in self._store.rows(ITEMS):
            self._load_item(place, data)

    def _made(self, kind: str, fields: dict[str, Any]) -> Table:
        import moto.dynamodb.models.table as module

        given = (fields["name"], self._account, fields["region_name"], fields["schema"], fields["attr"])
        table = cast("Table", Table.__new__(getattr(module, kind)))
        Table.__init__(table, *given)
        vars(table).update(fields)
        if (table.stream_specification or {}).get("StreamEnabled"):
            table.stream_shard = StreamShard(self._account, table)
        return table

    def _load_item(self, place: str, data: bytes) -> None:
        region, name, _ = place.split("/", 2)
        try:
            attributes: Any = loaded(data, self._shapes)
            table = dynamodb_backends[self._account][region].tables[name]
            hash_key = DynamoType(attributes[table.hash_key_attr])
            range_key = DynamoType(attributes[table.range_key_attr]) if table.range_key_attr else None
            item = Item(hash_key, range_key, attributes)
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"the record of the item {place} can not be read: {error!r}") from error
        if range_key is None:
            table.items[hash_key] = item  # type: ignore[assignment]
        else:
            table.items[hash_key][range_key] = item


def reads(operation: str, request: Mapping[str, Any]) -> bool:
    """Whether a request of that name changes nothing."""
    if operation.startswith(_READS):
        return True
    statements = [request, *request.get("Statements", ()), *request.get("TransactStatements", ())]
    said = [str(each["Statement"]).lstrip().lower() for each in statements if "Statement" in each]
    return bool(said) and all(statement.startswith("select") for statement in said)


def touched(operation: str, request: Mapping[str, Any]) -> Keys | None:
    """The items that it writes; `None`: what it writes is not said in so many words."""
    match operation:
        case "PutItem":
            return [(request["TableName"], request["Item"])]
        case "UpdateItem" | "DeleteItem":
            return [(request["TableName"], request["Key"])]
        case "BatchWriteItem":
            return [
                (table, write["PutRequest"]["Item"] if "PutRequest" in write else write["DeleteRequest"]["Key"])
                for table, writes in request["RequestItems"].items()
                for write in writes
            ]
        case "TransactWriteItems":
            actions = [action for each in request["TransactItems"] for action in each.values()]
            return [(action["TableName"], action.get("Item") or action["Key"]) for action in actions]
    return None


def _table(backend: DynamoDBBackend, name: str) -> Table | None:
    return backend.tables.get(name.rpartition("/")[2])


def _items(table: Table) -> Iterator[Item]:
    for below in list(table.items.values()):
        yield from [below] if isinstance(below, Item) else list(below.values())


def _key_of(item: Item) -> list[DynamoType]:
    return [item.hash_key] if item.range_key is None else [item.hash_key, item.range_key]


def _place(region: str, table: Table, keys: Iterable[DynamoType]) -> str:
    return f"{region}/{table.name}/{json.dumps([_identity(key) for key in keys], ensure_ascii=False)}"


def _identity(key: DynamoType) -> list[str]:
    """Equal for equal keys: 1 and 1.0 are."""
    value = str(Decimal(key.value).normalize()) if key.type == "N" else str(key.value)
    return [key.type, value]
