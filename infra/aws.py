"""DynamoDB and S3 for asynchronous code: boto3 in threads, its clients made when first needed, its errors made few.

Nothing is opened before the first call, so a memory snapshot may hold a `Clients`. Where boto3's own environment names
an endpoint (`AWS_ENDPOINT_URL`: an emulator), that is used; credentials are boto3's to find.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

Service = Literal["dynamodb", "s3"]

ATTEMPTS = 4
"""Of each call, with botocore's own backoff in between."""
CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
CONNECTIONS = 32
"""Calls that one process has under way at once."""

_CONDITIONS = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})
_MISSING = frozenset({"NoSuchKey", "404"})
_NOT_SET_UP = frozenset({"ResourceNotFoundException", "NoSuchBucket"})


class StateUnavailable(Exception):
    """DynamoDB or S3 cannot be used now: after its retries a call failed, throttled or timed out, or nothing is set
    up. Whether a write was done is then unknown. The message is for the operator; `code`: AWS's, where it answered."""

    def __init__(self, message: str, *, code: str = "") -> None:
        self.code = code
        super().__init__(message)


class ConditionFailed(Exception):
    """A write's condition did not hold, and nothing was written. `reasons`: one code for each write of a transaction
    ("None" where its own condition held); empty for a single write."""

    def __init__(self, reasons: tuple[str, ...] = ()) -> None:
        self.reasons = reasons
        super().__init__(", ".join(reasons) or "the condition did not hold")


class ObjectMissing(Exception):
    """S3 has no such object."""


class Clients:
    """`options`: of boto3's clients (`region_name`, `endpoint_url`, …), in place of what its environment says."""

    def __init__(self, **options: Any) -> None:
        self._options = options
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
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = getattr(self.client(service), operation)(**arguments)
            if operation == "get_object":  # read here, since that may block and fail as well
                answer["Body"] = answer["Body"].read()
        except ClientError as error:
            raise _translated(operation, error.response) from error
        except (BotoCoreError, OSError) as error:
            raise StateUnavailable(f"{service} {operation}: {error}") from error
        else:
            return dict(answer)

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
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS, max_pool_connections=CONNECTIONS,
        )  # fmt: skip
        session = boto3.Session()
        if service == "s3":
            return session.client("s3", config=config, **self._options)
        # A resource's client, unlike a plain one, takes Python values.
        return session.resource("dynamodb", config=config, **self._options).meta.client


def _translated(operation: str, response: Any) -> Exception:
    error = response.get("Error", {})
    code = str(error.get("Code", ""))
    if code in _CONDITIONS:
        reasons = tuple(str(reason.get("Code", "None")) for reason in response.get("CancellationReasons", ()))
        return ConditionFailed(reasons)
    if code in _MISSING:
        return ObjectMissing(operation)
    hint = "; `python -m infra.setup` makes table and bucket" if code in _NOT_SET_UP else ""
    return StateUnavailable(f"{operation}: {code}: {error.get('Message', '')}{hint}", code=code)
