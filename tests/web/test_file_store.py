"""What every store of files' records must do, in memory and in the table."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.aws_kit import StateOfTest
from tests.web.doubles import HandClock
from web.file_errors import FileNotFound, StorageFull
from web.file_store import FilesInMemory
from web.file_table import FilesInTable
from web.files import File, FileStore, new_id


@pytest.fixture(params=["memory", "table"])
def store(request: pytest.FixtureRequest, clock: HandClock) -> FileStore:
    if request.param == "memory":
        return FilesInMemory()
    state: StateOfTest = request.getfixturevalue("aws_state")
    return FilesInTable(state.table, clock=clock)


def file_of(clock: HandClock, **more: Any) -> File:
    clock.advance(1)
    given = {"owner": "key:a", "filename": "ä.jsonl", "purpose": "batch", "size": 10, "expires_at": None, **more}
    return File(id=new_id("file-", clock.time()), created_at=clock.time(), **{"state": "ready", **given})


async def kept(store: FileStore, *files: File) -> None:
    for file in files:
        await store.finish(file)


async def test_a_record_is_there_as_it_was_kept(store: FileStore, clock: HandClock) -> None:
    file = file_of(clock, expires_at=clock.time() + 9.5)
    await store.begin(replace(file, state="uploading"), until=clock.time())
    seen = await store.load("key:a", file.id)
    assert seen is not None
    assert seen.state == "uploading"
    await store.finish(file)
    assert await store.load("key:a", file.id) == file
    assert await store.load("key:b", file.id) is None


async def test_they_are_listed_in_the_order_in_which_they_were_made(store: FileStore, clock: HandClock) -> None:
    files = [file_of(clock) for _ in range(4)]
    await kept(store, *files, file_of(clock, owner="key:b"))
    assert await store.listed("key:a") == files[::-1]
    assert await store.listed("key:a", newest_first=False, limit=2) == files[:2]
    assert await store.listed("key:a", newest_first=False, limit=2, after=files[1].id) == files[2:]
    assert await store.listed("key:a", after=files[1].id) == files[:1]


async def test_an_owner_has_only_so_many_bytes_until_some_are_deleted(store: FileStore, clock: HandClock) -> None:
    first, second = file_of(clock, size=60), file_of(clock, size=41)
    await store.finish(first, most=100)
    with pytest.raises(StorageFull):
        await store.finish(second, most=100)
    await store.finish(file_of(clock, size=100, owner="key:b"), most=100)
    await store.delete(first, until=clock.time())
    await store.delete(first, until=clock.time())
    await store.finish(second, most=100)
    with pytest.raises(StorageFull):
        await store.finish(file_of(clock, size=60), most=100)
    await store.finish(file_of(clock, size=59), most=100)


async def test_a_file_counts_once_however_often_it_is_finished(store: FileStore, clock: HandClock) -> None:
    file = file_of(clock, size=50)
    await store.begin(replace(file, state="uploading"), until=clock.time())
    await asyncio.gather(store.finish(file, most=100), store.finish(file, most=100))
    await store.begin(replace(file, state="uploading"), until=clock.time())
    assert await store.load("key:a", file.id) == file, "what is there is not begun again"
    await store.finish(file_of(clock, size=50), most=100)


async def test_what_was_deleted_stays_so_until_it_is_forgotten(store: FileStore, clock: HandClock) -> None:
    file = file_of(clock)
    await store.finish(file)
    await store.forget(file)
    assert await store.load("key:a", file.id) == file, "one that is there is not forgotten"
    await store.delete(file, until=clock.time())
    with pytest.raises(FileNotFound):
        await store.finish(file)
    await store.forget(file)
    assert await store.load("key:a", file.id) is None
    await store.forget(file)


async def test_what_is_due_is_found_and_nothing_else(store: FileStore, clock: HandClock) -> None:
    now = clock.time()
    expiring = file_of(clock, expires_at=now + 10)
    upload = file_of(clock, state="uploading")
    deleted, for_ever = file_of(clock), file_of(clock)
    await kept(store, expiring, deleted, for_ever)
    await store.begin(upload, until=now + 20)
    await store.delete(deleted, until=now + 30)
    assert list(await store.due(before=now + 9, limit=9)) == []
    assert [file.id for file in await store.due(before=now + 20, limit=9)] == [expiring.id, upload.id]
    assert [file.id for file in await store.due(before=now + 99, limit=1)] == [expiring.id]
    assert len(await store.due(before=now + 99, limit=9)) == 3
