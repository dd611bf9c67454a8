"""Where the proxy passes calls on to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

FAILED = "ConditionalCheckFailed"
_ERRORS = "com.amazonaws.dynamodb.v20120810#"
_SINGLE = {"Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem", "ConditionCheck": "UpdateItem"}
_ON_FAILURE = "ReturnValuesOnConditionCheckFailure"
_TOKENS = 1000
"""Transactions that are known again."""


@dataclass(frozen=True)
class Request:
    """`path`: with its query, as it was sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """DynamoDB's name of it; empty for none."""
        return "" if self.status == 200 else str(self.json()["__type"]).partition("#")[2]


class Plain:
    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address

    async def send(self, request: Request, _: str) -> Answer:
        url = URL(self._address + request.path, encoded=True)
        skipped = ("Accept-Encoding", "User-Agent", "Content-Type")
        async with self._http.request(
            request.method, url, headers=request.headers, data=request.body, allow_redirects=False,
            skip_auto_headers=skipped,
        ) as answer:  # fmt: skip
            return Answer(answer.status, dict(answer.headers), await answer.read())


@dataclass
class Transacting:
    """A DynamoDB that has no transactions (dynalite), with transactions: made of its own single conditional writes,
    which are taken back if one of them fails, while everybody else is kept out. What its conditions and updates do is
    its own; that they happen all or not at all, the reasons, and that a transaction whose token is known again is not
    done twice ("Idempotency" of TransactWriteItems in the API reference) is ours."""

    plain: Plain
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    _done: dict[str, str] = field(default_factory=dict)

    async def send(self, request: Request, operation: str) -> Answer:
        async with self._alone:
            if operation == "TransactWriteItems":
                return await self._transact(request)
            answer = await self.plain.send(request, operation)
            if answer.error == "ConditionalCheckFailedException":
                return await self._with_what_is_there(request, answer)
            return answer

    async def _with_what_is_there(self, request: Request, refused: Answer) -> Answer:
        """Where that is asked for: dynalite does not know ReturnValuesOnConditionCheckFailure."""
        told = json.loads(request.body)
        if told.get(_ON_FAILURE) != "ALL_OLD":
            return refused
        where = _Write("", told).where
        found = (await self._one(request, "GetItem", {**where, "ConsistentRead": True})).json()
        return _said({**refused.json(), **found}, refused.status)

    async def _transact(self, request: Request) -> Answer:
        told = json.loads(request.body)
        token, items = told.get("ClientRequestToken", ""), told["TransactItems"]
        meant = json.dumps(items, sort_keys=True)
        if token in self._done:
            if self._done[token] != meant:
                return _error("IdempotentParameterMismatchException", "The token was used with other parameters")
            return _said({})
        writes = [_Write(kind, spec) for item in items for kind, spec in item.items()]
        if len({write.place for write in writes}) < len(writes):
            return _error("ValidationException", "Transaction request cannot include multiple operations on one item")
        reasons = await self._all(request, writes)
        if any(reason["Code"] != "None" for reason in reasons):
            return canceled(reasons)
        if token:
            self._done[token] = meant
            if len(self._done) > _TOKENS:
                del self._done[next(iter(self._done))]
        return _said({})

    async def _all(self, request: Request, writes: list[_Write]) -> list[dict[str, Any]]:
        """A reason for each; nothing was changed if one of them failed."""
        reasons, undo = [], []
        for write in writes:
            before = (await self._one(request, "GetItem", {**write.where, "ConsistentRead": True})).json().get("Item")
            answer = await self._one(request, write.operation, write.arguments)
            if answer.status == 200:
                reasons.append({"Code": "None"})
                undo.append((write, before))
                if write.kind == "ConditionCheck":  # dynalite makes an item of it
                    await self._put_back(request, write, before)
            else:
                code = FAILED if answer.error == "ConditionalCheckFailedException" else "ValidationError"
                reasons.append({"Code": code, "Message": answer.json().get("message", "")})
        if len(undo) < len(writes):
            for write, before in reversed(undo):
                await self._put_back(request, write, before)
        return reasons

    async def _put_back(self, request: Request, write: _Write, before: Any) -> None:
        if before is None:
            answer = await self._one(request, "DeleteItem", write.where)
        else:
            answer = await self._one(request, "PutItem", {"TableName": write.spec["TableName"], "Item": before})
        assert answer.status == 200, answer

    async def _one(self, request: Request, operation: str, arguments: dict[str, Any]) -> Answer:
        headers = {**request.headers, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        single = replace(request, headers=headers, body=json.dumps(arguments).encode())
        return await self.plain.send(single, operation)


@dataclass(frozen=True)
class _Write:
    """One of a transaction's, as a call of its own."""

    kind: str
    spec: dict[str, Any]

    @property
    def operation(self) -> str:
        return _SINGLE[self.kind]

    @property
    def arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.spec.items() if name != _ON_FAILURE}

    @property
    def where(self) -> dict[str, Any]:
        item = self.spec.get("Key") or self.spec["Item"]
        return {"TableName": self.spec["TableName"], "Key": {name: item[name] for name in ("pk", "sk")}}

    @property
    def place(self) -> str:
        return json.dumps(self.where, sort_keys=True)


def canceled(reasons: list[dict[str, Any]]) -> Answer:
    """That a transaction was, for a reason for each of its writes."""
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    return _error("TransactionCanceledException", message, CancellationReasons=reasons)


def _said(body: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


def _error(code: str, message: str, **more: Any) -> Answer:
    # TransactionCanceledException is the one whose message has a capital letter.
    name = "Message" if more else "message"
    return _said({"__type": _ERRORS + code, name: message, **more}, 400)
