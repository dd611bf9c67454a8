"""What a function's definition says about scaling, retries and time: read once, pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.scheduler.autoscaler import Policy
from emulator.scheduler.settings import effective_settings

if TYPE_CHECKING:
    from modal_proto import api_pb2

DEFAULT_TIMEOUT = 300.0
MIN_RETRY_DELAY = 1.0
PATIENCE = 0.05
"""Seconds for which a busy container may be about to become free: no other is started meanwhile."""
MOST_SESSIONS = 1000
"""Of one container: https://modal.com/docs/guide/sticky-sessions."""
BACKOFF_FIRST = 0.25
BACKOFF_LAST = 30.0


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds."""

    timeout: float
    """One attempt at one input."""
    startup_timeout: float
    """From the container's start until it asks for work."""
    exit_grace: float
    """From the request to leave until it is killed."""


def scaling_policy(
    definition: api_pb2.Function,
    *,
    machine_limit: int,
    overrides: api_pb2.AutoscalerSettings | None = None,
    patience: float = PATIENCE,
) -> Policy:
    """The autoscaler's policy for a definition; `machine_limit` caps what sets no maximum of its own.

    `overrides`: what has been updated since it was deployed.
    """
    settings = effective_settings(definition, overrides)
    minimum = settings.min_containers
    return Policy(
        min_containers=minimum,
        max_containers=settings.max_containers or max(machine_limit, minimum),
        buffer_containers=settings.buffer_containers,
        target_concurrency=_target_concurrency(definition, settings),
        scaledown_window=float(settings.scaledown_window),
        scaleup_window=max(patience, float(settings.scaleup_window)),
    )


def _target_concurrency(definition: api_pb2.Function, settings: api_pb2.AutoscalerSettings) -> float:
    # A Server that names no target is not scaled by its requests (one container, whatever comes), but by its sessions.
    unscaled = 1.0
    if definition.is_server:
        unscaled = float(definition.max_concurrent_inputs or MOST_SESSIONS) if sessioned(definition) else float("inf")
    if settings.HasField("target_concurrency_float"):
        return settings.target_concurrency_float or unscaled
    if settings.HasField("target_concurrency"):
        return float(settings.target_concurrency) or unscaled
    for value in (
        float(definition.target_concurrent_inputs),
        float(definition.http_config.target_concurrency),
        0.0 if definition.is_server else float(definition.max_concurrent_inputs),
        float(definition.batch_max_size),
    ):
        if value > 0:
            return value
    return unscaled


def sessioned(definition: api_pb2.Function) -> bool:
    """Whether it is a Server with sticky sessions, which clients before 1.6 do not know."""
    return bool(getattr(definition, "is_sessioned", False))


def limits(definition: api_pb2.Function) -> Limits:
    timeout = float(definition.timeout_secs or DEFAULT_TIMEOUT)
    startup = definition.startup_timeout_secs or definition.http_config.startup_timeout
    return Limits(
        timeout=timeout,
        startup_timeout=float(startup or timeout),
        exit_grace=float(definition.http_config.exit_grace_period),
    )


def retry_delay(policy: api_pb2.FunctionRetryPolicy, retries_so_far: int) -> float | None:
    """Seconds to wait before the next attempt, or `None` when the policy allows no more.

    Never less than one, as where the client itself does the retrying (`modal.retries.RetryManager`).
    """
    if retries_so_far >= policy.retries:
        return None
    coefficient = policy.backoff_coefficient or 1.0
    delay_ms = min(policy.initial_delay_ms * coefficient**retries_so_far, policy.max_delay_ms or 60_000)
    return max(MIN_RETRY_DELAY, float(delay_ms / 1000))


def boot_backoff(failures: int) -> float:
    """Seconds without a start after that many failed boots (or crashes) in a row."""
    return min(BACKOFF_LAST, BACKOFF_FIRST * 2.0 ** (failures - 1)) if failures else 0.0
