"""A whole service, its usage in a table: what is there when it was told to stop, and when it was killed."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from infra.usage import totals
from infra.usage_table import UsageTable
from tests.functions.test_standalone import running

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.aws import Aws
    from tests.aws_kit import StateOfTest
    from tests.functions.test_standalone import Standalone

pytestmark = pytest.mark.slow

MODELS: list[dict[str, Any]] = [{"id": "m", "name": "org/m", "local_engine": "scripted"}]
SCRIPT: dict[str, Any] = {"tokens": 5, "prompt_tokens": 7}


def ask(service: Standalone, times: int) -> None:
    for _ in range(times):
        assert len(list(service.stream("m", **SCRIPT))) >= 5


def counted(state: StateOfTest) -> tuple[int, int]:
    """Requests, and tokens of answers, as another process reads them."""
    rows = asyncio.run(UsageTable(state.table, keep_days=400).rows("anonymous", since="2000-01-01", until="2999-12-31"))
    found = totals(rows).values()
    return sum(amounts.requests for amounts in found), sum(amounts.completion_tokens for amounts in found)


def settings(aws: Aws, state: StateOfTest, *, flush: str) -> dict[str, str]:
    limits = {"LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000", "USAGE__FLUSH_SECONDS": flush}
    return {
        **aws.environment(),
        "STATE__KIND": "aws",
        "STATE__TABLE": state.name,
        "STATE__BUCKET": state.name,
        **limits,
    }


def test_one_that_is_told_to_stop_has_written_all_of_it(
    aws_server: Aws, aws_state: StateOfTest, tmp_path: Path
) -> None:
    with running(tmp_path / "log", MODELS, **settings(aws_server, aws_state, flush="60")) as service:
        ask(service, 4)
        assert counted(aws_state) == (0, 0), "it is not time yet"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0
    assert counted(aws_state) == (4, 20)


def test_one_that_is_killed_has_lost_what_came_after_its_last_writing_and_the_next_one_goes_on(
    aws_server: Aws, aws_state: StateOfTest, tmp_path: Path
) -> None:
    with running(tmp_path / "first", MODELS, **settings(aws_server, aws_state, flush="2")) as service:
        ask(service, 4)
        until = time.monotonic() + 30
        while counted(aws_state)[0] < 4:
            assert time.monotonic() < until
            time.sleep(0.05)
        ask(service, 3)
        service.process.kill()
        service.process.wait()
    requests, tokens = counted(aws_state)
    assert 4 <= requests <= 7
    assert tokens == 5 * requests, "no request by halves"
    with running(tmp_path / "second", MODELS, **settings(aws_server, aws_state, flush="60")) as service:
        ask(service, 2)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0
    assert counted(aws_state) == (requests + 2, tokens + 10)
