"""The service over SGLang's own server: throughput and time to the first token at 1, 16 and 64 streams, in one run.

    python -m tests.benchmarks.beside_sglang URL --key ek-… --model demo     # before an SGLang that runs

Both are asked in turns, several times, by the same callers; a figure is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks import our_service
from tests.benchmarks.load import run
from tests.benchmarks.processes import running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.load import Run

STREAMS = (1, 16, 64)
TOKENS = 128
"""Of every answer."""
ROUNDS = 5
QUESTION = "Tell me about the weather. " * 20
ENDS = ("0", "2")
"""The demo model's end tokens: nothing else ends an answer before its limit."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """At so many streams. `throughput`: the service's tokens a second over SGLang's own; `first_token`: SGLang's own
    seconds to the first token over the service's. 1 is as good as SGLang itself. The rest: the service's medians."""

    streams: int
    throughput: float
    first_token: float
    tokens_per_second: float
    seconds_to_first: float


def body(model: str, *, tokens: int) -> dict[str, Any]:
    return {
        "model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": tokens, "temperature": 0,
        "logit_bias": dict.fromkeys(ENDS, -100),
    }  # fmt: skip


@contextlib.contextmanager
def service(upstream: str, *, key: str, model: str, context: int) -> Iterator[str]:
    """The service before an SGLang that runs already: its address."""
    port = free_port()
    configured = {"id": model, "name": model, "context_length": context, "local_engine": "sglang"}
    environment = {
        our_service.UPSTREAM: upstream, our_service.KIND: "sglang", our_service.ENGINE_KEY: key,
        "MODELS__AVAILABLE_MODELS": json.dumps([configured]), "MODELS__MAX_CONCURRENT_REQUESTS": "1000",
        "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000000",
    }  # fmt: skip
    with running([sys.executable, "-m", our_service.__name__, "--port", str(port)], port=port, environment=environment):
        yield f"http://127.0.0.1:{port}"


def measure(
    engine: str, *, key: str, model: str, context: int, streams: Sequence[int] = STREAMS, rounds: int = ROUNDS
) -> list[Figure]:
    """Raises RuntimeError when an answer is not what it should be."""
    headers = {"authorization": f"Bearer {key}"}
    asked = body(model, tokens=TOKENS)
    with service(engine, key=key, model=model, context=context) as ours:
        found = []
        for count in streams:
            for url in (engine, ours):
                run(url, asked, streams=count, headers=headers)  # graphs, caches, connections
            turns = [
                (run(engine, asked, streams=count, headers=headers), run(ours, asked, streams=count, headers=headers))
                for _ in range(rounds)
            ]
            found.append(_figure(count, turns))
        return found


def _figure(streams: int, turns: Sequence[tuple[Run, Run]]) -> Figure:
    """Every answer has the same length, however many of its tokens came in one event."""
    return Figure(
        streams=streams,
        throughput=statistics.median(direct.wall / ours.wall for direct, ours in turns),
        first_token=statistics.median(direct.first_token / ours.first_token for direct, ours in turns),
        tokens_per_second=statistics.median(streams * TOKENS / ours.wall for _, ours in turns),
        seconds_to_first=statistics.median(ours.first_token for _, ours in turns),
    )


def table(figures: Sequence[Figure], *, title: str) -> str:
    lines = [
        f"{title}: the service over SGLang's own server",
        "streams  throughput  first token   tokens/s  first (ms)",
    ]
    lines += [
        f"{each.streams:7}  {each.throughput:10.3f}  {each.first_token:11.3f}  {each.tokens_per_second:9.0f}  "
        f"{each.seconds_to_first * 1000:10.1f}"
        for each in figures
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.beside_sglang")
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    figures = measure(given.url, key=given.key, model=given.model, context=given.context, rounds=given.rounds)
    print(table(figures, title=given.model))


if __name__ == "__main__":
    main()
