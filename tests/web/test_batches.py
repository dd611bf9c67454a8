"""`/v1/batches`, with OpenAI's SDK over real sockets, worked on in the service's own process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from infra.settings import Batches, Web
from tests.web.batch_kit import CHAT, become, begun, lines, request, said, told
from tests.web.conftest import MODEL, target_of, until
from tests.web.test_files import KEYS, configured, slow, storage_of

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.aws_kit import StateOfTest
    from tests.web.conftest import Serve, Served
    from tests.web.doubles import HandClock, HandEngine

pytestmark = pytest.mark.slow


@pytest.fixture
async def sdk(served: Served) -> Any:
    async with served.sdk() as client:
        yield client


@pytest.mark.parametrize("kept", ["memory", pytest.param("aws", marks=pytest.mark.slow)])
async def test_a_batch_is_answered_line_by_line(
    serve: Serve, engine: ScriptedServer, request: pytest.FixtureRequest, kept: str, clock: HandClock
) -> None:
    storage = None if kept == "memory" else storage_of(request.getfixturevalue("aws_state"), clock)
    served = serve(engine, settings=configured(), storage=storage, clock=clock)
    async with served.sdk(api_key=KEYS[0]) as sdk:
        asked = [_request(f"ä-{n} 🦜", f"{n} € and") for n in range(25)]
        content = lines(asked[:12]) + b"\n  \r\n" + lines(asked[12:])[:-1]
        batch = await begun(sdk, content, metadata={"of": "mine"})
        assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
        assert batch.expires_at == batch.created_at + 86400
        batch = await become(sdk, batch.id)
        assert batch.status == "completed", batch
        assert (batch.model, batch.metadata, batch.errors) == (MODEL, {"of": "mine"}, None)
        counts = batch.request_counts
        assert counts is not None
        assert (counts.total, counts.completed, counts.failed) == (25, 25, 0)
        assert batch.error_file_id is None
        assert None not in (batch.in_progress_at, batch.finalizing_at, batch.completed_at)
        answers = await told(sdk, batch.output_file_id)
        assert {line["custom_id"] for line in answers} == {one["custom_id"] for one in asked}
        assert len(answers) == 25
        for line in answers:
            assert (line["response"]["status_code"], line["error"]) == (200, None)
            assert line["response"]["body"]["object"] == "chat.completion"
        tokens = sum(line["response"]["body"]["usage"]["total_tokens"] for line in answers)
        assert batch.usage is not None
        assert batch.usage.total_tokens == tokens
        file = await sdk.files.retrieve(str(batch.output_file_id))
        assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    if kept == "aws":
        state: StateOfTest = request.getfixturevalue("aws_state")
        await until(lambda: not any(name.startswith("batches/") for name in state.objects()), seconds=20)


_request = request


@pytest.mark.slow
async def test_every_endpoint_can_be_asked(serve: Serve, engine: ScriptedServer, sdk: openai.AsyncOpenAI) -> None:
    bodies: dict[str, Any] = {
        "/v1/completions": {"model": MODEL, "prompt": "one", "max_tokens": 3},
        "/v1/responses": {"model": MODEL, "input": "one", "max_output_tokens": 3},
    }
    for url, body in bodies.items():
        line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
        batch = await become(sdk, (await begun(sdk, lines([line]), endpoint=url)).id)
        (answer,) = await told(sdk, batch.output_file_id)
        assert answer["response"]["status_code"] == 200
        assert batch.usage is not None
        assert batch.usage.output_tokens > 0


async def test_lines_that_fail_are_told_in_the_error_file(sdk: openai.AsyncOpenAI) -> None:
    asked = [
        request("good"), request("streamed", stream=True), request("wrong", temperature="hot"),
        request("refused", x_scripted={"status": 400}),
    ]  # fmt: skip
    batch = await become(sdk, (await begun(sdk, lines(asked))).id)
    counts = batch.request_counts
    assert counts is not None
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 4, 1, 3)
    assert [line["custom_id"] for line in await told(sdk, batch.output_file_id)] == ["good"]
    failed = {line["custom_id"]: line["response"] for line in await told(sdk, batch.error_file_id)}
    assert set(failed) == {"streamed", "wrong", "refused"}
    assert {one["status_code"] for one in failed.values()} == {400}
    assert failed["streamed"]["body"]["error"]["param"] == "stream"
    assert failed["wrong"]["body"]["error"]["param"] == "temperature"


GOOD = json.dumps(request("a")).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (GOOD + b"{what?}\n", "invalid_json_line", 2),
        slow(GOOD + b"[]\n", "invalid_json_line", 2),
        (GOOD + b"\n" + GOOD, "duplicate_custom_id", 3),
        slow(lines([{**request("a"), "custom_id": None}]), "missing_required_parameter", 1),
        slow(lines([{**request("a"), "custom_id": 7}]), "invalid_custom_id", 1),
        slow(lines([{**request("a"), "method": "GET"}]), "invalid_method", 1),
        slow(lines([request("a", url="/v1/completions")]), "url_mismatch", 1),
        slow(lines([{**request("a"), "body": "x"}]), "invalid_request", 1),
        slow(lines([request("a", model="nobody")]), "model_not_found", 1),
        (GOOD + lines([request("b", model="scripted")]), "mismatched_model", 2),
        slow(lines([request(str(n)) for n in range(4)]), "too_many_tasks", None),
        slow(b"\n \n", "empty_batch", None),
        slow(b"", "empty_batch", None),
    ],
)
async def test_an_input_file_that_is_wrong_fails_its_batch_and_says_where(
    serve: Serve, engine: ScriptedServer, content: bytes, code: str, line: int | None
) -> None:
    settings = configured(keys=False).model_copy(update={"batches": Batches(max_lines=3)})
    served = serve(engine, settings=settings)
    async with served.sdk() as sdk:
        batch = await become(sdk, (await begun(sdk, content)).id)
        assert batch.status == "failed"
        assert batch.failed_at is not None
        assert batch.errors is not None
        assert [(one.code, one.line) for one in batch.errors.data or ()] == [(code, line)]
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert engine.state()["started"] == 0


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint", "invalid_value"),
        slow({"completion_window": "1h"}, "completion_window", "invalid_value"),
        slow({"input_file_id": "file-none"}, "input_file_id", "file_not_found"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "invalid_value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds",
         "invalid_value"),
    ],
)  # fmt: skip
async def test_a_batch_that_is_wrong_is_refused_by_name(
    sdk: openai.AsyncOpenAI, change: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await begun(sdk, GOOD, **change)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.slow
async def test_only_a_file_for_batches_is_taken(sdk: openai.AsyncOpenAI) -> None:
    file = await sdk.files.create(file=("f", GOOD), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
        await sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


async def test_anothers_batch_is_not_there_and_neither_is_their_file(serve: Serve, engine: ScriptedServer) -> None:
    served = serve(engine, settings=configured())
    async with served.sdk(api_key=KEYS[0]) as mine, served.sdk(api_key=KEYS[1]) as others:
        batch = await begun(mine, GOOD)
        for ask in (others.batches.retrieve, others.batches.cancel):
            with pytest.raises(openai.NotFoundError, match="No batch found"):
                await ask(batch.id)
        with pytest.raises(openai.BadRequestError, match="No such File"):
            await others.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
        assert (await others.batches.list()).data == []
        assert [one.id for one in (await mine.batches.list()).data] == [batch.id]
        await become(mine, batch.id)


@pytest.mark.slow
async def test_they_are_listed_in_pages_the_newest_first(
    serve: Serve, engine: ScriptedServer, clock: HandClock
) -> None:
    served = serve(engine, settings=configured(keys=False), clock=clock)
    async with served.sdk() as sdk:
        made = []
        for _ in range(3):
            clock.advance(1)
            made.append((await begun(sdk, GOOD)).id)
        assert [one.id async for one in sdk.batches.list(limit=2)] == made[::-1]
        for batch_id in made:
            await become(sdk, batch_id)


async def test_a_cancelled_batch_keeps_what_was_answered(
    serve: Serve, hand_engine: HandEngine, clock: HandClock
) -> None:
    settings = configured(keys=False).model_copy(update={"batches": Batches(concurrency=2)})
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=settings, clock=clock)
    async with served.sdk() as sdk:
        batch = await begun(sdk, lines([request(str(n)) for n in range(5)]))
        first, second = await hand_engine.next(), await hand_engine.next()
        await first.begin()
        await first.token("yes", finish="stop")
        await first.end()
        third = await hand_engine.next()
        cancelling = await sdk.batches.cancel(batch.id)
        assert (cancelling.status, cancelling.output_file_id) == ("cancelling", None)
        await second.closed.wait()
        await third.closed.wait()
        batch = await become(sdk, batch.id)
        counts = batch.request_counts
        assert counts is not None
        assert (batch.status, counts.total, counts.completed, counts.failed) == ("cancelled", 5, 1, 4)
        assert [said(line) for line in await told(sdk, batch.output_file_id)] == ["yes"]
        failed = await told(sdk, batch.error_file_id)
        assert {line["error"]["code"] for line in failed} == {"batch_cancelled"}
        assert {line["response"] for line in failed} == {None}
        assert (await sdk.batches.cancel(batch.id)).status == "cancelled"
    assert hand_engine.waiting() == 0


async def test_what_is_over_cannot_be_cancelled(sdk: openai.AsyncOpenAI) -> None:
    batch = await become(sdk, (await begun(sdk, GOOD)).id)
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.batches.cancel(batch.id)
    assert caught.value.code == "batch_not_cancellable"


async def test_a_batch_that_is_not_done_in_a_day_expires_and_keeps_what_was_answered(
    serve: Serve, hand_engine: HandEngine, clock: HandClock
) -> None:
    own = {"batches": Batches(concurrency=1, line_seconds=10**6), "web": Web(request_deadline=10**6)}
    settings = configured(keys=False).model_copy(update=own)
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=settings, clock=clock)
    async with served.sdk() as sdk:
        batch = await begun(sdk, lines([request(str(n)) for n in range(3)]))
        first = await hand_engine.next()
        await first.begin()
        await first.token("yes", finish="stop")
        await first.end()
        second = await hand_engine.next()
        clock.advance(86400)
        await second.closed.wait()
        batch = await become(sdk, batch.id)
        counts = batch.request_counts
        assert counts is not None
        assert (batch.status, counts.completed, counts.failed) == ("expired", 1, 2)
        assert batch.expired_at is not None
        assert batch.expired_at >= (batch.expires_at or 0)
        assert [said(line) for line in await told(sdk, batch.output_file_id)] == ["yes"]
        assert {line["error"]["code"] for line in await told(sdk, batch.error_file_id)} == {"batch_expired"}


@pytest.mark.slow
async def test_progress_is_told_while_it_runs(serve: Serve, hand_engine: HandEngine, clock: HandClock) -> None:
    settings = configured(keys=False).model_copy(update={"batches": Batches(concurrency=1)})
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=settings, clock=clock)
    async with served.sdk() as sdk:
        batch = await begun(sdk, lines([request("a"), request("b")]))
        for done in range(2):
            talk = await hand_engine.next()
            counts = (await become(sdk, batch.id, "in_progress")).request_counts
            assert counts is not None
            assert (counts.total, counts.completed) == (2, done)
            await talk.begin()
            await talk.token("yes", finish="stop")
            await talk.end()
            if not done:
                await until(lambda: hand_engine.waiting() == 1, seconds=20)
                clock.advance(6)
                while (now := (await sdk.batches.retrieve(batch.id)).request_counts) is None or not now.completed:
                    continue
        await become(sdk, batch.id, "completed")


async def test_a_line_is_asked_again_while_the_engine_is_full_or_goes_away(
    serve: Serve, hand_engine: HandEngine, clock: HandClock
) -> None:
    settings = configured(keys=False).model_copy(update={"batches": Batches(concurrency=1)})
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=settings, clock=clock)
    async with served.sdk() as sdk:
        batch = await begun(sdk, GOOD)
        for status in (503, 500):
            await (await hand_engine.next()).answer(status, b'{"error": {"message": "no"}}')
            while not hand_engine.waiting():
                clock.advance(1)
                await sdk.batches.retrieve(batch.id)
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("yes", finish="stop")
        await talk.end()
        batch = await become(sdk, batch.id)
        assert [said(line) for line in await told(sdk, batch.output_file_id)] == ["yes"]


async def test_a_batch_goes_on_though_its_input_file_is_deleted(
    serve: Serve, hand_engine: HandEngine, clock: HandClock
) -> None:
    settings = configured(keys=False).model_copy(update={"batches": Batches(concurrency=1)})
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=settings, clock=clock)
    async with served.sdk() as sdk:
        batch = await begun(sdk, lines([request("a"), request("b")]))
        for n in range(2):
            talk = await hand_engine.next()
            if not n:
                await sdk.files.delete(batch.input_file_id)
            await talk.begin()
            await talk.token("yes", finish="stop")
            await talk.end()
        batch = await become(sdk, batch.id)
        assert len(await told(sdk, batch.output_file_id)) == 2


@pytest.mark.slow
async def test_an_owner_has_only_so_many_unfinished_batches(serve: Serve, hand_engine: HandEngine) -> None:
    settings = configured(keys=False).model_copy(update={"batches": Batches(max_unfinished=1)})
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=settings)
    async with served.sdk() as sdk:
        batch = await begun(sdk, GOOD)
        with pytest.raises(openai.RateLimitError) as caught:
            await begun(sdk, GOOD)
        assert caught.value.code == "batch_limit_exceeded"
        await sdk.batches.cancel(batch.id)
        await become(sdk, batch.id)
        await sdk.batches.cancel((await begun(sdk, GOOD)).id)
