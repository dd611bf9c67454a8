"""What a request names by its id, or the error that says that there is no such thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.protocol.dispatch import not_found

if TYPE_CHECKING:
    from emulator.state import App, FunctionRecord, State


def app_of(state: State, app_id: str) -> App:
    """Raises `GRPCError` (NOT_FOUND)."""
    app = state.apps.get(app_id)
    if app is None:
        raise not_found(f"No App with ID {app_id}")
    return app


def function_of(state: State, function_id: str) -> FunctionRecord:
    """Raises `GRPCError` (NOT_FOUND)."""
    record = state.functions.get(function_id)
    if record is None:
        raise not_found(f"No Function with ID {function_id}")
    return record
