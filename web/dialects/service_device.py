"""Where a model runs, beside where its caller would like it to run. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Device, Model, Settings
    from web.asgi import Header


def device_of(model: Model, settings: Settings) -> Device:
    """The device that the model's engine computes on: what is configured, where the engine can use it."""
    return model.runs_on(settings.models, settings.deploy.target)


def fallback(wanted: Device | None, there: Device, *, model: str) -> str | None:
    """What to warn of when a caller's device is not the one that there is."""
    if wanted is None or wanted == there:
        return None
    return f"the device '{wanted}' is not there for the model '{model}': it runs on '{there}'"


def device_headers(there: Device, warning: str | None) -> list[Header]:
    """`x-device`: where the answer is computed; `warning` (RFC 7234) when that is not where it was wanted."""
    headers = [(b"x-device", there.encode())]
    if warning is not None:
        headers.append((b"warning", f'299 - "{warning}"'.encode("latin-1", "replace")))
    return headers
