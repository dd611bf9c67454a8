"""`/v1/files`, with OpenAI's SDK and by hand, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
import pytest

from functions.shared import SharedState
from functions.state import file_storage
from infra import objects
from infra.objects import Objects
from infra.settings import ApiKey, Files, Security, Settings
from tests.web.conftest import settings_with, until
from web.batch_store import in_memory

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.aws_kit import StateOfTest
    from tests.web.conftest import Serve, Served
    from tests.web.doubles import HandClock
    from web.batches import Storage

KEYS = ("sk-one-" + "1" * 40, "sk-two-" + "2" * 40)
TEXT = '{"ä": "€ 🦜"}\n'.encode()


def configured(*, keys: bool = True, **files: Any) -> Settings:
    known = tuple(ApiKey(key=key, name=key[:6]) for key in KEYS)
    security = Security(enable_auth=keys, api_keys=known if keys else ())
    return settings_with().model_copy(update={"security": security, "files": Files(**files)})


def storage_of(state: StateOfTest, clock: Any) -> Storage:
    shared = SharedState(state.clients, state.table, state.bucket, Objects(state.clients, state.name))
    found = file_storage(shared, clock)
    assert found is not None
    return found


@pytest.fixture(params=["memory", pytest.param("aws", marks=pytest.mark.slow)])
def files_served(request: pytest.FixtureRequest, serve: Serve, engine: ScriptedServer, clock: HandClock) -> Served:
    storage = None if request.param == "memory" else storage_of(request.getfixturevalue("aws_state"), clock)
    served: Served = serve(engine, settings=configured(), clock=clock, storage=storage)
    return served


async def test_a_file_is_uploaded_listed_read_and_deleted(files_served: Served, clock: HandClock) -> None:
    async with files_served.sdk(api_key=KEYS[0]) as sdk:
        file = await sdk.files.create(file=("in/ä 1.jsonl", TEXT), purpose="batch")
        assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(TEXT), "ä 1.jsonl", "batch")
        assert file.created_at == int(clock.time())
        assert file.expires_at == file.created_at + 30 * 86400
        assert await sdk.files.retrieve(file.id) == file
        assert (await sdk.files.content(file.id)).content == TEXT
        assert (await sdk.files.list()).data == [file]
        gone = await sdk.files.delete(file.id)
        assert (gone.id, gone.deleted, gone.object) == (file.id, True, "file")
        for ask in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
            with pytest.raises(openai.NotFoundError, match="No such File"):
                await ask(file.id)
        assert (await sdk.files.list()).data == []


async def test_anothers_file_is_not_there(files_served: Served) -> None:
    async with files_served.sdk(api_key=KEYS[0]) as mine, files_served.sdk(api_key=KEYS[1]) as others:
        file = await mine.files.create(file=("a", TEXT), purpose="user_data")
        assert file.expires_at is None
        for ask in (others.files.retrieve, others.files.content, others.files.delete):
            with pytest.raises(openai.NotFoundError):
                await ask(file.id)
        assert (await others.files.list()).data == []
        assert (await mine.files.content(file.id)).content == TEXT


async def test_they_are_listed_in_pages_by_order_and_purpose(files_served: Served, clock: HandClock) -> None:
    async with files_served.sdk(api_key=KEYS[0]) as sdk:
        made = []
        for n in range(5):
            clock.advance(1)
            purpose: Any = "user_data" if n == 2 else "batch"
            made.append(await sdk.files.create(file=(str(n), b"x"), purpose=purpose))
        assert [one.filename async for one in sdk.files.list(limit=2)] == list("43210")
        assert [one.filename async for one in sdk.files.list(limit=2, order="asc")] == list("01234")
        page = await sdk.files.list(limit=2, purpose="batch")
        assert ([one.filename for one in page.data], page.has_more) == (["4", "3"], True)
        page = await sdk.files.list(limit=2, purpose="batch", after=page.data[-1].id)
        assert ([one.filename for one in page.data], page.has_more) == (["1", "0"], False)


async def test_a_file_expires(files_served: Served, clock: HandClock) -> None:
    async with files_served.sdk(api_key=KEYS[0]) as sdk:
        expiring: Any = {"anchor": "created_at", "seconds": 3600}
        file = await sdk.files.create(file=("a", TEXT), purpose="user_data", expires_after=expiring)
        assert file.expires_at == file.created_at + 3600
        clock.advance(3600)
        with pytest.raises(openai.NotFoundError):
            await sdk.files.content(file.id)
        assert (await sdk.files.list()).data == []


BOUNDARY = "xxBOUNDARYxx"


def form(*parts: tuple[str, str | None, bytes], end: bool = True) -> bytes:
    """Parts: name, filename, value."""
    body = b""
    for name, filename, value in parts:
        more = "" if filename is None else f'; filename="{filename}"'
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
        )
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


async def post(http: aiohttp.ClientSession, served: Served, body: bytes, **headers: str) -> tuple[int, Any]:
    told = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    async with http.post(f"{served.url}/v1/files", data=body, headers=told) as answer:
        return answer.status, await answer.json()


def slow(*values: Any) -> Any:
    """A case that `make check` tries."""
    return pytest.param(*values, marks=pytest.mark.slow)


PURPOSE = ("purpose", None, b"batch")
FILE = ("file", "f.jsonl", b"{}")
ANCHOR = ("expires_after[anchor]", None, b"created_at")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (form(FILE), "purpose", "missing_required_parameter"),
        slow(form(PURPOSE), "file", "missing_required_parameter"),
        slow(form(PURPOSE, ("file", None, b"{}")), "file", "invalid_type"),
        slow(form(FILE, ("purpose", None, b"fine-tune")), "purpose", "unsupported_value"),
        slow(form(("purpose", None, b"x"), FILE), "purpose", "invalid_value"),
        slow(form(PURPOSE, PURPOSE, FILE), "purpose", "invalid_value"),
        slow(form(PURPOSE, FILE, FILE), "file", "unknown_parameter"),
        slow(form(PURPOSE, FILE, ("color", None, b"red")), "color", "unknown_parameter"),
        slow(form(PURPOSE, FILE, ANCHOR), "expires_after[seconds]", "missing_required_parameter"),
        (
            form(PURPOSE, FILE, ANCHOR, ("expires_after[seconds]", None, b"3599")),
            "expires_after[seconds]", "invalid_value",
        ),
        (form(PURPOSE, FILE, end=False), None, "invalid_multipart"),
        slow(b"what?", None, "invalid_multipart"),
    ],
)  # fmt: skip
async def test_a_form_that_is_wrong_is_told_and_nothing_is_kept(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession, body: bytes, param: str | None, code: str
) -> None:
    storage = in_memory()
    served = serve(engine, settings=configured(keys=False), storage=storage)
    status, told = await post(http, served, body)
    assert (status, told["error"]["param"], told["error"]["code"]) == (400, param, code)
    assert not await storage.files.listed("public")
    assert storage.objects.kept == {}  # type: ignore[attr-defined]


async def test_fields_may_stand_in_any_order(served: Served, http: aiohttp.ClientSession) -> None:
    seconds = ("expires_after[seconds]", None, b"7200")
    for parts in ((FILE, PURPOSE, seconds, ANCHOR), (ANCHOR, PURPOSE, seconds, FILE)):
        status, file = await post(http, served, form(*parts))
        assert (status, file["bytes"], file["expires_at"] - file["created_at"]) == (200, 2, 7200)


async def test_what_is_no_form_is_refused(served: Served, http: aiohttp.ClientSession) -> None:
    status, told = await post(http, served, b"{}", **{"content-type": "application/json"})
    assert (status, told["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.slow
async def test_a_file_that_is_too_large_is_refused_whether_it_says_so_or_not(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession, aws_state: StateOfTest, clock: HandClock
) -> None:
    settings = configured(keys=False, max_file_bytes=100_000, max_total_bytes=150_000)
    served = serve(engine, settings=settings, storage=storage_of(aws_state, clock), clock=clock)
    for size in (100_001, 10**6):
        status, told = await post(http, served, form(PURPOSE, ("file", "f", bytes(size))))
        assert (status, told["error"]["code"]) == (413, "file_too_large")
    assert (await post(http, served, form(PURPOSE, ("file", "f", bytes(100_000)))))[0] == 200
    status, told = await post(http, served, form(PURPOSE, ("file", "f", bytes(100_000))))
    assert (status, told["error"]["code"]) == (413, "storage_limit_exceeded")
    assert len(aws_state.objects()) == 1


@pytest.mark.slow
async def test_a_large_file_goes_to_s3_in_parts_and_comes_back_whole(
    serve: Serve, engine: ScriptedServer, aws_state: StateOfTest, clock: HandClock
) -> None:
    served = serve(engine, settings=configured(keys=False), storage=storage_of(aws_state, clock), clock=clock)
    body = b"0123456789abcdef" * (objects.PART_BYTES * 2 // 16) + b"end"
    async with served.sdk() as sdk:
        file = await sdk.files.create(file=("f", body), purpose="batch")
        assert aws_state.calls.count("s3:UploadPart") == 3
        assert (await sdk.files.content(file.id)).content == body


@pytest.mark.slow
async def test_of_an_upload_whose_caller_leaves_nothing_is_kept(
    serve: Serve, engine: ScriptedServer, aws_state: StateOfTest, clock: HandClock
) -> None:
    served = serve(engine, settings=configured(keys=False), storage=storage_of(aws_state, clock), clock=clock)
    head = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n{head}\r\n\r\n".encode())
    writer.write(form(PURPOSE, ("file", "f", bytes(objects.PART_BYTES + 1)), end=False)[:-2])
    await writer.drain()
    await until(lambda: "s3:UploadPart" in aws_state.calls, seconds=30)
    assert len(aws_state.items()) == 1
    writer.transport.abort()
    await until(lambda: not aws_state.items(), seconds=30)
    assert "s3:AbortMultipartUpload" in aws_state.calls
    assert not aws_state.admin.client("s3").list_multipart_uploads(Bucket=aws_state.name).get("Uploads")
    async with served.sdk() as sdk:
        assert (await sdk.files.list()).data == []
    assert reader is not None


@pytest.mark.slow
async def test_storage_that_cannot_be_reached_is_a_503_that_is_asked_again(
    serve: Serve, engine: ScriptedServer, aws_state: StateOfTest, clock: HandClock
) -> None:
    shared = SharedState(aws_state.clients, aws_state.table, aws_state.bucket, Objects(aws_state.admin, "not-there"))
    served = serve(engine, settings=configured(keys=False), storage=file_storage(shared, clock), clock=clock)
    async with served.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.files.create(file=("f", TEXT), purpose="batch")
        assert (caught.value.status_code, caught.value.code) == (503, "storage_unavailable")
        assert caught.value.response.headers["x-should-retry"] == "true"
        assert (await sdk.files.list()).data == []
