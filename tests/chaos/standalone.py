"""The service without Modal, as `python -m functions.standalone` starts it, but that time may be ahead (CHAOS_AHEAD, in
seconds: what was left behind is as old as that), and calls to AWS that failed are tried again at once and each time."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import uvloop

from functions.logs import configure_logging
from functions.standalone import serve, settings_here
from infra import aws
from tests.chaos.retries import at_once
from web.clock import RealClock


class ClockAhead(RealClock):
    def __init__(self, seconds: float) -> None:
        self.time: Any = lambda: time.time() + seconds


def main() -> None:
    at_once(setattr)
    aws.PAUSE_SECONDS = (0.0, 0.0)
    aws.READ_SECONDS = float(os.environ["CHAOS_READ_SECONDS"])
    settings = settings_here()
    configure_logging(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, clock=ClockAhead(float(os.environ["CHAOS_AHEAD"]))))


if __name__ == "__main__":
    main()
