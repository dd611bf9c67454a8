"""What a gateway costs: this service beside a bare relay, the Rust gateway smg and LiteLLM's proxy, all in one run.

    python -m tests.benchmarks.gateway [--rounds 3] [--only ours,smg] [--json FILE] [--no-bridge]

All stand before one scripted engine that paces its events, and take turns in an order that rotates, so that a noisy
machine disturbs all alike. CPU is that of the gateway's process, over the events (or requests) that it carried; what it
adds to the time to the first token is told against the engine asked directly in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.bridge import bridge_figures
from tests.benchmarks.callers import CallerError, Heard, Task, call
from tests.benchmarks.gateways import KEY, MODEL, STARTS, Gateway, gateways
from tests.benchmarks.processes import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

AGAINST = "smg"
"""Whose CPU the others' is a ratio of."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`tokens` of each answer, `gap` seconds apart; the rest as in `Task`."""

    name: str
    callers: int
    answers: int
    tokens: int
    gap: float = 0.0
    ramp: float = 0.0
    stream: bool = True

    def task(self, gateway: Gateway) -> Task:
        messages = [{"role": "user", "content": "What does a gateway cost?"}]
        body: dict[str, Any] = {
            "model": MODEL, "messages": messages, "max_tokens": self.tokens,
            "x_scripted": {"tokens": self.tokens, "gap": self.gap},
        }  # fmt: skip
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Task(url=gateway.url, body=body, callers=self.callers, answers=self.answers, ramp=self.ramp, key=KEY)


SCENARIOS = (
    Scenario(name="1 stream", callers=1, answers=12, tokens=50, gap=0.004),
    Scenario(name="32 streams", callers=32, answers=3, tokens=60, gap=0.03, ramp=1.0),
    Scenario(name="256 streams", callers=256, answers=2, tokens=30, gap=0.125, ramp=3.0),
    Scenario(name="256 streams at once", callers=256, answers=1, tokens=8, gap=0.1),
    Scenario(name="plain", callers=4, answers=100, tokens=16, stream=False),
)


@dataclass(kw_only=True)
class Measured:
    """One gateway in one scenario: a round each. `cpu`: microseconds for an event, or for a plain request."""

    gateway: str
    scenario: str
    cpu: list[float] = field(default_factory=list)
    first: list[list[float]] = field(default_factory=list)
    total: list[list[float]] = field(default_factory=list)
    failure: str | None = None
    """Why a round was not answered as it should be: then there is none after it."""

    def add(self, heard: Heard, spent: float) -> None:
        self.cpu.append(spent * 1e6 / (heard.events or len(heard.total)))
        self.first.append(heard.first)
        self.total.append(heard.total)

    @property
    def cpu_median(self) -> float:
        return statistics.median(self.cpu)

    def percentile(self, share: float) -> float:
        """Of the milliseconds to the first token, or of a plain request to its end, all rounds together."""
        waits = sorted(wait for round_ in (self.first if any(self.first) else self.total) for wait in round_)
        return waits[min(len(waits) - 1, int(len(waits) * share))] * 1000


def measure(there: Sequence[Gateway], scenarios: Sequence[Scenario], *, rounds: int) -> dict[str, dict[str, Measured]]:
    """Scenario -> gateway -> figures. A round before the first warms up and is not counted."""
    figures = {
        scenario.name: {one.name: Measured(gateway=one.name, scenario=scenario.name) for one in there}
        for scenario in scenarios
    }
    for turn in range(rounds + 1):
        order = [*there[turn % len(there) :], *there[: turn % len(there)]]
        for scenario in scenarios:
            for gateway in order:
                _measure(gateway, _warming(scenario, turn), figures[scenario.name][gateway.name], counts=turn > 0)
    return figures


def _measure(gateway: Gateway, scenario: Scenario, measured: Measured, *, counts: bool) -> None:
    """One round of one gateway in one scenario, unless it failed there before."""
    if measured.failure is not None:
        return
    before = cpu_seconds(gateway.pid) if gateway.pid else 0.0
    try:
        heard = call(scenario.task(gateway))
    except CallerError as error:
        measured.failure = str(error)
        return
    spent = cpu_seconds(gateway.pid) - before if gateway.pid else 0.0
    if counts:
        measured.add(heard, spent)


def _warming(scenario: Scenario, turn: int) -> Scenario:
    return scenario if turn else replace(scenario, answers=min(scenario.answers, 2), tokens=min(scenario.tokens, 8))


def table(scenario: Scenario, figures: dict[str, Measured]) -> str:
    direct, base = (one if one and one.cpu else None for one in (figures.get("direct"), figures.get(AGAINST)))
    unit, what = ("event", "TTFT") if scenario.stream else ("request", "answer")
    lines = [
        f"\n{scenario.name}: {scenario.callers} callers x {scenario.answers} answers x {scenario.tokens} tokens, "
        f"{scenario.gap * 1000:g} ms apart",
        f"  {'':<11} {'CPU µs/' + unit:>14} {'x ' + AGAINST:>7} {what + ' p50':>12} {'p99 ms':>8} "
        f"{'added p50':>10} {'added p99':>10}",
    ]
    for name, one in figures.items():
        if one.failure is not None:
            lines.append(f"  {name:<11} failed: {one.failure}")
            continue
        p50, p99 = one.percentile(0.5), one.percentile(0.99)
        ratio = f"{one.cpu_median / base.cpu_median:7.2f}" if base and name != "direct" else " " * 7
        cpu = f"{one.cpu_median:14.1f}" if name != "direct" else " " * 14
        added = f"{p50 - direct.percentile(0.5):+10.2f} {p99 - direct.percentile(0.99):+10.2f}" if direct else ""
        lines.append(f"  {name:<11} {cpu} {ratio} {p50:12.2f} {p99:8.2f} {added}")
    return "\n".join(lines)


def main() -> None:
    options = _options()
    names = [name for name in STARTS if not options.only or name in options.only.split(",")]
    scenarios = [one for one in SCENARIOS if not options.scenarios or one.name in options.scenarios.split(",")]
    with gateways(names) as (there, absent):
        figures = measure(there, scenarios, rounds=options.rounds)
    for scenario in scenarios:
        print(table(scenario, figures[scenario.name]))
    for name, reason in absent.items():
        print(f"\n{name} is not in these tables: {reason}")
    bridge = None if options.no_bridge else bridge_figures(rounds=options.rounds)
    if bridge is not None:
        print(bridge.table())
    if options.json:
        rounds = {name: {one: asdict(told) for one, told in row.items()} for name, row in figures.items()}
        told = {"gateways": rounds, "absent": absent, "bridge": bridge and asdict(bridge)}
        Path(options.json).write_text(json.dumps(told, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gateway")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"of these, separated by commas: {', '.join(STARTS)}")
    parser.add_argument("--scenarios", default="", help=f"of these: {', '.join(one.name for one in SCENARIOS)}")
    parser.add_argument("--json", help="write every round's figures to this file")
    parser.add_argument("--no-bridge", action="store_true", help="leave out the emulator's bridge")
    return parser.parse_args()


if __name__ == "__main__":
    main()
