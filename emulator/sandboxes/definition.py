"""What a Sandbox's definition asks for: what is honoured, what is recorded, what is refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from grpclib import GRPCError, Status

from emulator.protocol.dispatch import invalid
from emulator.protocol.schema import has_field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modal_proto import api_pb2

    Fate = Literal["honoured", "recorded", "refused", "internal"]

LONGEST_TIMEOUT = 24 * 60 * 60
"""Seconds: https://modal.com/docs/guide/sandbox."""
DEFAULT_COMMAND = ("sleep", "172800")
"""Of an image without a `CMD`: what the client writes into those that Modal builds."""


def _all(fate: Fate, names: str) -> dict[str, Fate]:
    return dict.fromkeys(names.split(), fate)


FIELDS: dict[str, Fate] = {
    **_all(
        "honoured",
        """
        entrypoint_args mount_ids image_id secret_ids timeout_secs idle_timeout_secs workdir volume_mounts pty_info
        open_ports network_access block_network name readiness_probe environment_variables
        """,
    ),
    **_all(
        "recorded",
        """
        resources scheduler_placement cloud_provider cloud_provider_str runtime verbose experimental_options
        experimental_options_v2 enable_snapshot
        """,
    ),
    **_all(
        "refused",
        """
        nfs_mounts s3_mounts cloud_bucket_mounts i6pn_enabled proxy_id custom_domain include_oidc_identity_token
        inbound_cidr_allowlist experimental_outbound_policy outbound_policy include_x509_svid
        """,
    ),
    **_all(
        "internal",
        """
        runtime_debug worker_id snapshot_version runsc_runtime_version preload_path_prefixes
        direct_sandbox_commands_enabled _restore_instance_type
        """,
    ),
}


def check(definition: api_pb2.Sandbox) -> None:
    """Raises `GRPCError`: INVALID_ARGUMENT for what Modal refuses, UNIMPLEMENTED by name for what is not there."""
    if definition.timeout_secs > LONGEST_TIMEOUT:
        raise invalid(f"`timeout` must be between 1 and {LONGEST_TIMEOUT} seconds, not {definition.timeout_secs}")
    if missing := ", ".join(_missing(definition)):
        raise GRPCError(Status.UNIMPLEMENTED, f"The emulator does not implement, of Sandboxes: {missing}")


def blocks_network(definition: api_pb2.Sandbox) -> bool:
    access = definition.network_access
    return definition.block_network or access.network_access_type == access.NetworkAccessType.BLOCKED


def terminal_of(info: api_pb2.PTYInfo) -> tuple[int, int] | None:
    """(rows, columns) of the terminal that is asked for."""
    return (info.winsz_rows or 24, info.winsz_cols or 80) if info.enabled else None


def terminal_variables(info: api_pb2.PTYInfo) -> dict[str, str]:
    """What programs know a terminal by: that of the one who asks."""
    if not info.enabled:
        return {}
    found = {"TERM": info.env_term, "COLORTERM": info.env_colorterm, "TERM_PROGRAM": info.env_term_program}
    return {name: value for name, value in found.items() if value}


def _missing(definition: api_pb2.Sandbox) -> Iterable[str]:
    access = definition.network_access
    found = {
        "CloudBucketMount": definition.cloud_bucket_mounts or definition.s3_mounts,
        "NetworkFileSystem": definition.nfs_mounts,
        "`i6pn`": definition.i6pn_enabled,
        "Proxy": definition.HasField("proxy_id"),
        "`custom_domain`": definition.custom_domain,
        "`include_oidc_identity_token`": definition.include_oidc_identity_token,
        "`inbound_cidr_allowlist`": definition.inbound_cidr_allowlist,
        "`outbound_cidr_allowlist` and `outbound_domain_allowlist`": (
            access.network_access_type == access.NetworkAccessType.ALLOWLIST
        ),
        "an outbound policy": _is_set(definition, "experimental_outbound_policy", "outbound_policy"),
        "X.509 identities": getattr(definition, "include_x509_svid", False),
    }
    return (name for name, asked_for in found.items() if asked_for)


def _is_set(definition: api_pb2.Sandbox, *names: str) -> bool:
    return any(has_field(definition, name) and definition.HasField(name) for name in names)  # type: ignore[arg-type]
