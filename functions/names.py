"""Names that app.py gives, and that others must find again."""

from __future__ import annotations


def server_name(model_id: str) -> str:
    """The Modal Server of a model. Modal looks nothing up whose name holds a dot."""
    return f"engine-{model_id.replace('.', '_')}"
