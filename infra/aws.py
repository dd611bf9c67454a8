"""DynamoDB and S3 for asynchronous code: boto3 in threads, its clients made when first needed, its errors made few.

Nothing is opened before the first call, so a memory snapshot may hold a `Clients`. Where boto3's own environment names
an endpoint (`AWS_ENDPOINT_URL`: an emulator), that is used; credentials are boto3's to find.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from infra.identity import aws_session

Service = Literal["dynamodb", "s3"]

ATTEMPTS = 4
"""Of each call, with botocore's own backoff in between."""
CONFLICTS = 8
"""How often a write is tried that comes in the way of a transaction on the same item: boto3 does not try it again."""
PAUSE_SECONDS = (0.01, 0.1)
"""Between those, drawn anew each time, for the others in the way pause as well."""
CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
CONNECTIONS = 32
"""Calls that one process has under way at once."""

_CONDITION = "ConditionalCheckFailedException"
_CANCELED = "TransactionCanceledException"
_CONFLICT = "TransactionConflictException"
_PASSING = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Reasons for which a transaction is cancelled that another try may not meet."""
_MISSING = frozenset({"NoSuchKey", "404"})
_NOT_SET_UP = "; `python -m infra.setup` makes table and bucket"
_HINTS = {
    "ResourceNotFoundException": _NOT_SET_UP,
    "NoSuchBucket": _NOT_SET_UP,
    "ExpiredTokenException": "; this container has outlived its identity token: another one has its own",
}


class StateUnavailable(Exception):
    """DynamoDB or S3 cannot be used now: after its retries a call failed, throttled or timed out, or nothing is set
    up. Whether a write was done is then unknown. The message is for the operator; `code`: AWS's, where it answered."""

    def __init__(self, message: str, *, code: str = "") -> None:
        self.code = code
        super().__init__(message)


class ConditionFailed(Exception):
    """A write's condition did not hold, and nothing was written. `reasons`: one code for each write of a transaction
    ("None" where its own condition held); empty for a single write. `item`: what is there instead, where that was asked
    for (`ReturnValuesOnConditionCheckFailure`) and there is one."""

    def __init__(self, reasons: tuple[str, ...] = (), *, item: dict[str, Any] | None = None) -> None:
        self.reasons = reasons
        self.item = item
        super().__init__(", ".join(reasons) or "the condition did not hold")


class ObjectMissing(Exception):
    """S3 has no such object."""


class _Passing(StateUnavailable):
    """Another try may do, up to `tries` in all; boto3 has made none."""

    def __init__(self, message: str, *, code: str = "", tries: int) -> None:
        self.tries = tries
        super().__init__(message, code=code)


class Clients:
    """`options`: of boto3's clients (`region_name`, `endpoint_url`, …), in place of what its environment says.
    `role_arn`: the role whose credentials are taken where the platform gives an identity token."""

    def __init__(self, *, role_arn: str | None = None, **options: Any) -> None:
        self._options = options
        self._role_arn = role_arn
        self._session: Any = None
        self._made: dict[Service, Any] = {}
        self._making = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, service: Service, operation: str, /, **arguments: Any) -> dict[str, Any]:
        """One call of boto3's client (of DynamoDB's with Python values). Raises StateUnavailable,
        ConditionFailed, ObjectMissing. One that is cancelled may have happened."""
        self._pool = self._pool or ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="aws")
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: self.call_now(service, operation, **arguments)
        )

    def call_now(self, service: Service, operation: str, /, **arguments: Any) -> dict[str, Any]:
        """The same for code that may block."""
        tried = 0
        while True:
            try:
                return self._try(service, operation, **arguments)
            except _Passing as error:
                tried += 1
                if tried >= error.tries:
                    raise
            time.sleep(random.uniform(*PAUSE_SECONDS))

    def _try(self, service: Service, operation: str, /, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = dict(getattr(self.client(service), operation)(**arguments))
        except ClientError as error:
            raise _translated(operation, error.response) from error
        except (BotoCoreError, OSError) as error:
            raise StateUnavailable(f"{service} {operation}: {error}") from error
        if operation == "get_object":  # read here, since that may block and fail as well
            try:
                answer["Body"] = answer["Body"].read()
            except (BotoCoreError, OSError) as error:
                raise _Passing(f"{service} {operation}: {error}", tries=ATTEMPTS) from error
        return answer

    def client(self, service: Service) -> Any:
        """boto3's client, which threads may share. Takes a moment the first time."""
        with self._making:
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def close(self) -> None:
        """Let go of threads and connections; a later call opens them again."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        with self._making:
            for client in self._made.values():
                client.close()
            self._made.clear()

    def _make(self, service: Service) -> Any:
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS, max_pool_connections=CONNECTIONS,
        )  # fmt: skip
        # One for both, so that a role is taken once.
        session = self._session = self._session or aws_session(
            region=self._options.get("region_name"), role_arn=self._role_arn
        )
        if service == "s3":
            return session.client("s3", config=config, **self._options)
        # A resource's client, unlike a plain one, takes Python values.
        return session.resource("dynamodb", config=config, **self._options).meta.client


def _translated(operation: str, response: Any) -> Exception:
    error = response.get("Error", {})
    code = str(error.get("Code", ""))
    if code == _CONDITION:
        return ConditionFailed(item=_read(response["Item"]) if "Item" in response else None)
    if code == _CANCELED:
        reasons = tuple(str(reason.get("Code", "None")) for reason in response.get("CancellationReasons", ()))
        if "ConditionalCheckFailed" in reasons:
            return ConditionFailed(reasons)
        if _PASSING.intersection(reasons):
            return _Passing(f"{operation}: {', '.join(reasons)}", code=code, tries=CONFLICTS)
    if code == _CONFLICT:
        return _Passing(f"{operation}: {code}", code=code, tries=CONFLICTS)
    if code in _MISSING:
        return ObjectMissing(operation)
    hint = _HINTS.get(code, "")
    return StateUnavailable(f"{operation}: {code}: {error.get('Message', '')}{hint}", code=code)


def _read(item: dict[str, Any]) -> dict[str, Any]:
    """An item as Python values: boto3 reads those of answers only, not of errors."""
    from boto3.dynamodb.types import TypeDeserializer

    read = TypeDeserializer().deserialize
    return {name: read(value) for name, value in item.items()}
