"""What metrics cost on the hot path: the service without them, with them, and with them written to a table each second.

    python -m tests.benchmarks.metrics [--rounds 5]

All three stand before one scripted engine and take turns. CPU is that of the service's process, over the streamed
events (or plain requests) that it carried; of the ratios the median over the rounds, in each of which all took turns.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from typing import TYPE_CHECKING

from tests.benchmarks import our_service
from tests.benchmarks.gateway import SCENARIOS, measure
from tests.benchmarks.gateways import Gateway, engine, our_settings
from tests.benchmarks.processes import running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OFF, ON, WRITTEN = "off", "on", "written"
ASKED = ("32 streams", "plain")


@contextlib.contextmanager
def services() -> Iterator[list[Gateway]]:
    """The three, before one engine."""
    from emulator.aws import Aws
    from tests.aws_kit import state_of

    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(engine())
        aws = stack.enter_context(Aws())
        state = state_of(aws)
        each: dict[str, Mapping[str, str]] = {
            OFF: {"OBSERVABILITY__ENABLE_METRICS": "false"},
            ON: {},
            WRITTEN: {our_service.SHARED_METRICS: "1", "STATE__TABLE": state.name, "METRICS__PUBLISH_INTERVAL": "1",
                      **aws.environment()},
        }  # fmt: skip
        there = []
        for name, settings in each.items():
            port = free_port()
            command = [sys.executable, "-m", our_service.__name__, "--port", str(port)]
            environment = {our_service.UPSTREAM: upstream, **our_settings(), **settings}
            pid = stack.enter_context(running(command, port=port, environment=environment))
            there.append(Gateway(name=name, url=f"http://127.0.0.1:{port}", pid=pid))
        yield there
        assert any(item["pk"] == "metrics" for item in state.items()), "no metrics were written"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.metrics", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    scenarios = [one for one in SCENARIOS if one.name in ASKED]
    with services() as there:
        figures = measure(there, scenarios, rounds=rounds)
    for scenario in scenarios:
        told = figures[scenario.name]
        unit = "event" if scenario.stream else "request"
        print(f"{scenario.name}: CPU for one {unit}, median of {rounds} rounds")
        for name, one in told.items():
            if one.failure is not None:
                print(f"  {name:<8} failed: {one.failure}")
                continue
            ratio = statistics.median(mine / off for mine, off in zip(one.cpu, told[OFF].cpu, strict=True))
            print(f"  {name:<8} {one.cpu_median:8.1f} µs   x {ratio:.3f} of off")


if __name__ == "__main__":
    main()
