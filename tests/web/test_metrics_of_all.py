"""Whichever container a scrape reaches, it tells the sum over all of them, and never less than the scrape before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from infra.aws import StateUnavailable
from infra.metrics_table import MetricsTable
from tests.web.conftest import chat, settings_with
from tests.web.test_metrics import of, scrape, value
from web.publishing import READ_SECONDS

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from infra.metric_rows import Reading, Row
    from tests.aws_kit import StateOfTest
    from tests.web.conftest import Served

pytestmark = pytest.mark.slow


class Unreachable:
    """What stands in for the table when it cannot be reached."""

    async def write(self, row: Row, *, new: bool, again: bool = False) -> None:
        raise StateUnavailable("no table")

    async def read(self) -> Reading:
        raise StateUnavailable("no table")

    async def fold(self, *, now: float) -> int:
        raise StateUnavailable("no table")


async def ask(served: Served) -> None:
    await (await served.raw(chat({"tokens": 2}))).rest()


async def test_two_containers_tell_the_same_sum_and_none_tells_less_than_another_did(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, aws_state: StateOfTest
) -> None:
    both = [serve(engine, metrics=MetricsTable(aws_state.table)) for _ in range(2)]
    for count in range(1, 5):
        asked, other = both[count % 2], both[1 - count % 2]
        await ask(asked)
        for served in (asked, other):
            samples = await scrape(served, http)
            assert of(samples, "chat_completions_requests_total") == count
            assert of(samples, "generation_tokens_total") == 2 * count
    samples = await scrape(both[0], http)
    assert value(samples, "web_containers") == value(samples, "web_container_starts_total") == 2


async def test_many_scrapes_at_once_share_a_reading_that_none_of_them_began_after(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, aws_state: StateOfTest
) -> None:
    served = serve(engine, metrics=MetricsTable(aws_state.table))
    await ask(served)
    await scrape(served, http)
    aws_state.calls.clear()
    found = await asyncio.gather(*(scrape(served, http) for _ in range(20)))
    assert all(of(samples, "chat_completions_requests_total") == 1 for samples in found)
    assert READ_SECONDS > 0
    assert aws_state.calls.count("dynamodb:Query") <= 5


async def test_a_table_that_cannot_be_reached_is_a_503_and_no_smaller_sum(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, metrics=Unreachable())
    await ask(served)
    async with http.get(served.url + "/metrics") as response:
        assert (response.status, response.headers["retry-after"]) == (503, "2")
        assert (await response.json())["error"]["code"] == "metrics_unavailable"


@pytest.mark.parametrize("enabled", [True, False])
async def test_without_metrics_nothing_is_counted_and_nothing_written(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, aws_state: StateOfTest, enabled: bool
) -> None:
    settings = settings_with()
    observability = settings.observability.model_copy(update={"enable_metrics": enabled})
    settings = settings.model_copy(update={"observability": observability})
    served = serve(engine, settings=settings, metrics=MetricsTable(aws_state.table))
    await ask(served)
    async with http.get(served.url + "/metrics") as response:
        assert response.status == (200 if enabled else 404)
    assert bool(aws_state.items()) is enabled
