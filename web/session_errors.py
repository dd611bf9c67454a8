"""What can go wrong with sessions: see `web.errors`."""

from __future__ import annotations

from web.errors import INVALID, LONGEST_ECHO, UNAVAILABLE, ServiceError


class SessionBusy(ServiceError):
    """Another turn is under way on the session, and did not end while this one waited."""

    status, type, code, again, retry_after = 409, "conflict_error", "session_busy", True, 1.0

    def __init__(self, waited: float) -> None:
        super().__init__(f"Another turn of this session is still under way after {waited:.0f} s.")


class SessionConflict(ServiceError):
    """The session is not what it was when it was read: somebody else changed or deleted it."""

    status, type, code, again, retry_after = 409, "conflict_error", "session_busy", True, 1.0

    def __init__(self) -> None:
        super().__init__("The session was changed by another request. Try again.")


class SessionNotFound(ServiceError):
    status, type, code, param = 404, INVALID, "session_not_found", "session_id"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session '{session_id[:LONGEST_ECHO]}'.")


class SessionExists(ServiceError):
    status, type, code, param = 409, INVALID, "session_exists", "id"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is a session '{session_id[:LONGEST_ECHO]}' already.")


class SessionDeleted(ServiceError):
    """The session was deleted while its answer was on its way: the answer stops, and nothing of it is kept."""

    status, type, code = 409, "conflict_error", "session_deleted"
    again = False  # it would begin the session anew

    def __init__(self) -> None:
        super().__init__("The session was deleted while it was being answered.")


class TooManySessions(ServiceError):
    """`most`: how many there may be at once. `retry_after`: seconds until the next one expires, if that is known."""

    status, type, code, again = 429, "requests", "max_sessions_reached", False

    def __init__(self, most: int, *, retry_after: float | None = None) -> None:
        super().__init__(f"There are {most} sessions already. Delete one, or wait until one expires.")
        self.retry_after = 5.0 if retry_after is None else retry_after


class StoreUnavailable(ServiceError):
    """What keeps sessions cannot be reached, or refuses: chats without a session are served all the same."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "sessions_unavailable", True, 2.0

    def __init__(self) -> None:
        super().__init__("Sessions cannot be read or written now. Try again, or ask without a session.")
