"""What a request gives a Sandbox or a command as environment variables: Secrets by id, and values that come along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.protocol.dispatch import not_found
from emulator.protocol.schema import has_field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modal_proto import api_pb2
    from modal_proto import task_command_router_pb2 as router_pb2

    from emulator.state import State

    Request = api_pb2.SandboxCreateV2Request | router_pb2.TaskExecStartRequest


def variables(state: State, request: Request) -> dict[str, str]:
    """The variables of a request, later ones over earlier ones, as each version of the client sends them.

    Raises `GRPCError` (NOT_FOUND) for a Secret that is not there.
    """
    values = of_secrets(state, getattr(request, "secret_ids", ()))
    values.update(getattr(request, "env", {}))
    if has_field(request, "ephemeral_secrets"):
        values.update(request.ephemeral_secrets.contents)  # type: ignore[union-attr]
    if has_field(request, "secret_sources"):
        for source in request.secret_sources:
            if source.WhichOneof("source") == "secret_id":
                values.update(of_secrets(state, [source.secret_id]))
            else:
                values.update(source.env.contents)
    return values


def of_secrets(state: State, secret_ids: Iterable[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for secret_id in secret_ids:
        if (secret := state.secrets.get(secret_id)) is None:
            raise not_found(f"No Secret with ID {secret_id}")
        values.update(secret.values)
    return values
