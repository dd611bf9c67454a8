"""A function's autoscaler settings: what its definition says, what was overridden since, and what holds. Pure."""

from __future__ import annotations

from modal_proto import api_pb2

SCALEDOWN_WINDOWS = range(2, 3601)
"""Seconds that `scaledown_window` may be, as the client says of it."""
DEFAULT_SCALEDOWN_WINDOW = 60

Settings = api_pb2.AutoscalerSettings


def default_settings() -> Settings:
    """What holds where a definition says nothing. There is no default maximum."""
    return Settings(min_containers=0, buffer_containers=0, scaledown_window=DEFAULT_SCALEDOWN_WINDOW)


def static_settings(definition: api_pb2.Function) -> Settings:
    """What a definition says, in its settings or in the fields that it had before there were any."""
    settings = Settings()
    settings.CopyFrom(definition.autoscaler_settings)
    for name, value in {
        "min_containers": definition.warm_pool_size,
        "max_containers": definition.concurrency_limit,
        "buffer_containers": definition._experimental_buffer_containers,
        "scaledown_window": definition.task_idle_timeout_secs,
    }.items():
        if value and not settings.HasField(name):  # type: ignore[arg-type]
            setattr(settings, name, value)
    return settings


def effective_settings(definition: api_pb2.Function, overrides: Settings | None = None) -> Settings:
    """What holds now. Presence counts: an explicit 0 takes back what lies below it."""
    settings = default_settings()
    settings.MergeFrom(static_settings(definition))
    if overrides is not None:
        settings.MergeFrom(overrides)
    return settings


def refusal(settings: Settings) -> str:
    """Why settings that are to hold make no sense, or nothing. A maximum of 0 is none."""
    if settings.max_containers and settings.min_containers > settings.max_containers:
        return (
            f"`min_containers` ({settings.min_containers}) cannot be greater than "
            f"`max_containers` ({settings.max_containers})"
        )
    if settings.scaledown_window not in SCALEDOWN_WINDOWS:
        return "`scaledown_window` must be between 2 and 3600 (inclusive)"
    return ""
