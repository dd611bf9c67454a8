"""The page behind the links that the client shows ("View Deployment"): an app, where it answers, what asks for more."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from modal_proto import api_pb2

if TYPE_CHECKING:
    from emulator.state import App, State


def app_page(state: State, app_id: str) -> str | None:
    """As HTML; `None` for an app that is not there."""
    app = state.apps.get(app_id)
    if app is None:
        return None
    name = escape(app.name or app.description)
    kind = api_pb2.AppState.Name(app.state).removeprefix("APP_STATE_").replace("_", " ").lower()
    version = f", version {app.version}" if app.version else ""
    rows = "".join(f"<tr><td>{escape(tag)}<td>{places}" for tag, places in _functions(state, app))
    commands = "".join(f"<li><code>modal app {verb} {app_id}</code>" for verb in ("logs", "history", "stop"))
    return (
        f'<!doctype html><meta charset="utf-8"><title>{name}</title><h1>{name}</h1>'
        f"<p>{app_id} in {escape(app.environment)}: {kind}{version}</p><table>{rows}</table><ul>{commands}</ul>"
    )


def _functions(state: State, app: App) -> list[tuple[str, str]]:
    """Each function's name, and links to where it answers."""
    found = []
    for tag, function_id in app.function_ids.items():
        urls = state.functions[function_id].urls.values()
        found.append((tag.removesuffix(".*"), " ".join(f'<a href="{escape(url)}">{escape(url)}</a>' for url in urls)))
    return found
