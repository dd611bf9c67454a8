"""What containers log, and how: to stderr, at the configured level."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Server


def configure_logging(server: Server) -> None:
    """Log at the configured level from now on, over what was configured before."""
    logging.basicConfig(level=server.python_log_level, format="%(levelname)s %(name)s: %(message)s", force=True)
    # Modal's client has a handler of its own: what it says would be there twice.
    logging.getLogger("modal-client").propagate = False
