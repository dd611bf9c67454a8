"""What outlives the emulator: records by kind and key, written in one go before an answer leaves.

Bytes in, bytes out: what they mean is for whoever puts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
"""Of everything below a state directory. A higher one is a newer emulator's, and is not touched."""


class StateError(Exception):
    """What is kept can not be used: the message names the file, and says what to do."""


class NotKeptError(OSError):
    """What was to be kept could not be written. It is tried again with the next commit."""


class Store(Protocol):
    """Used from one thread at a time. `put` and `delete` count once `commit` has returned."""

    def put(self, kind: str, key: str, value: bytes) -> None: ...

    def delete(self, kind: str, key: str) -> None:
        """Harmless for what is not there."""

    def delete_prefix(self, kind: str, prefix: str) -> None:
        """Every record of that kind whose key begins so."""

    def rows(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """What was committed, in the order of the keys (of their UTF-8)."""

    def get(self, kind: str, key: str) -> bytes | None:
        """One record, as it was put last, committed or not."""

    def commit(self) -> None:
        """Keep all that was put, or nothing of it: raises `NotKeptError`."""

    def close(self) -> None:
        """Commit, and let go. Harmless when repeated."""


class NothingKept:
    """The `Store` of an emulator without a state directory."""

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Nobody will ask for it."""

    def delete(self, kind: str, key: str) -> None:
        """It is not there."""

    def delete_prefix(self, kind: str, prefix: str) -> None:
        """They are not there."""

    def rows(self, kind: str) -> Iterator[tuple[str, bytes]]:  # noqa: ARG002
        return iter(())

    def get(self, kind: str, key: str) -> bytes | None:  # noqa: ARG002
        return None

    def commit(self) -> None:
        """There is nothing to keep."""

    def close(self) -> None:
        """There is nothing to let go of."""
