"""What can go wrong with the API keys of the table, as the caller is told."""

from __future__ import annotations

from web.errors import INVALID, LONGEST_ECHO, UNAVAILABLE, ServiceError


class KeysUnavailable(ServiceError):
    """Whether the key is a valid one cannot be told now: what keeps the keys cannot be reached, or too many keys that
    are none are tried. Never a 401, on which callers throw their keys away."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "keys_unavailable", True, 2.0

    def __init__(self) -> None:
        super().__init__("API keys cannot be checked now. Try again.")


class KeyNotFound(ServiceError):
    status, type, code, param = 404, INVALID, "key_not_found", "key_id"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no API key with the id '{key_id[:LONGEST_ECHO]}'.")


class KeyRevoked(ServiceError):
    """The API key is revoked already, and nothing of it can be changed."""

    status, type, code = 409, INVALID, "key_revoked"
    again = False

    def __init__(self, key_id: str) -> None:
        super().__init__(f"The API key '{key_id[:LONGEST_ECHO]}' is revoked. Make another one.")


class OwnKey(ServiceError):
    """An administrator would take the key that this very request was made with from himself."""

    status, type, code = 409, INVALID, "own_key"
    again = False

    def __init__(self) -> None:
        super().__init__(
            "This request was made with that very key, which could not administer any more. Use another key with the "
            "scope 'admin', or force=true."
        )


class KeyConflict(ServiceError):
    """Others changed the API key at the same time."""

    status, type, code, again, retry_after = 409, "conflict_error", "key_conflict", True, 1.0

    def __init__(self) -> None:
        super().__init__("The API key was changed by another request. Try again.")
