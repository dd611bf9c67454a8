"""What every store of API keys must do, and what the one in the table makes of its items."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from infra import key_table
from infra.access import KeyTerms
from infra.aws import StateUnavailable
from infra.key_records import KeyRecord, made_secret, may_be_kept, new_key
from infra.key_store import KeyChanged, KeyIsRevoked, KeysInMemory, KeyStore, NoSuchKey, changed
from infra.key_table import KeysInTable
from infra.keys import fingerprint

if TYPE_CHECKING:
    from tests.aws_kit import StateOfTest

NOW = 1_800_000_000.0
TERMS = KeyTerms(
    name="of Zoë", scopes=("inference", "metrics"), models=("demo",), rate_limit_per_minute=7, tokens_per_minute=10**6,
    monthly_budget=0.1, expires_at=datetime(2030, 1, 1, tzinfo=UTC),
)  # fmt: skip


@pytest.fixture(params=["memory", "table"])
def store(request: pytest.FixtureRequest) -> KeyStore:
    if request.param == "memory":
        return KeysInMemory()
    state: StateOfTest = request.getfixturevalue("aws_state")
    return KeysInTable(state.table, time=lambda: NOW)


async def made(store: KeyStore, name: str = "k", *, now: float = NOW) -> tuple[KeyRecord, str]:
    record, secret = new_key(KeyTerms(name=name), labels={}, now=now)
    await store.create(record)
    return record, secret


async def test_a_key_is_found_by_its_secret_and_by_its_id_as_it_was_made(store: KeyStore) -> None:
    record, secret = new_key(TERMS, labels={"team": "ä"}, now=NOW)
    assert await store.find(fingerprint(secret)) is None
    await store.create(record)
    assert await store.find(fingerprint(secret)) == record
    assert await store.get(record.id) == record
    for other in ("key_" + "0" * 24, "", "x" * 3000, record.id + "0"):
        assert await store.get(other) is None
    assert await store.find(fingerprint(made_secret())) is None


async def test_keys_are_listed_in_pages_the_newest_first(store: KeyStore) -> None:
    records = [(await made(store, f"k{n}", now=NOW + n))[0] for n in range(5)]
    newest_first = records[::-1]
    assert await store.page(after=None, limit=10) == newest_first
    assert await store.page(after=None, limit=2) == newest_first[:2]
    assert await store.page(after=newest_first[1].id, limit=2) == newest_first[2:4]
    assert await store.page(after=newest_first[4].id, limit=2) == []


async def test_a_revoked_key_is_listed_and_no_secret_finds_it(store: KeyStore) -> None:
    record, secret = await made(store)
    revoked = await changed(store, record.id, lambda was: was.revoked(NOW + 1))
    assert await store.find(fingerprint(secret)) is None
    assert await store.page(after=None, limit=9) == [revoked]
    assert (revoked.status(NOW + 1), revoked.accepted_until(record.key)) == ("revoked", 0.0)
    with pytest.raises(KeyIsRevoked):
        await changed(store, record.id, lambda was: was.revoked(NOW + 2))
    with pytest.raises(NoSuchKey):
        await changed(store, "key_" + "0" * 24, lambda was: was.revoked(NOW))


async def test_a_rotated_key_has_a_new_secret_and_the_one_before_for_its_grace(store: KeyStore) -> None:
    record, first = await made(store)
    secrets = [first]

    def rotate(was: KeyRecord, grace: float) -> KeyRecord:
        record, secret = was.rotated(NOW, grace=grace)
        secrets.append(secret)
        return record

    second = await changed(store, record.id, lambda was: rotate(was, 60.0))
    for secret, until in zip(secrets, (NOW + 60, float("inf")), strict=True):
        assert await store.find(fingerprint(secret)) == second
        assert second.accepted_until(fingerprint(secret)) == until
    third = await changed(store, record.id, lambda was: rotate(was, 60.0))
    assert await store.find(fingerprint(secrets[0])) is None, "of two that were rotated away, the last one has a grace"
    assert await store.find(fingerprint(secrets[1])) == await store.find(fingerprint(secrets[2])) == third
    await changed(store, record.id, lambda was: rotate(was, 0.0))
    found = [await store.find(fingerprint(secret)) is not None for secret in secrets]
    assert found == [False, False, False, True]
    await changed(store, record.id, lambda was: was.revoked(NOW))
    assert await store.find(fingerprint(secrets[3])) is None


async def test_a_grace_never_outlives_the_key() -> None:
    record, _ = new_key(TERMS, labels={}, now=NOW)
    assert TERMS.expires_at is not None
    end = TERMS.expires_at.timestamp()
    rotated, _ = record.rotated(end - 10, grace=60)
    assert rotated.accepted_until(record.key) == end
    assert rotated.status(end) == "expired"


async def test_of_two_who_change_a_key_at_once_each_is_heard(store: KeyStore) -> None:
    record, _ = await made(store)

    def label(was: KeyRecord, name: str) -> KeyRecord:
        return was.changed(was, {**was.labels, name: "yes"})

    await asyncio.gather(*(changed(store, record.id, lambda was, n=n: label(was, n)) for n in "abc"))  # type: ignore[misc]
    kept = await store.get(record.id)
    assert kept is not None
    assert (kept.labels, kept.version) == (dict.fromkeys("abc", "yes"), 4)
    with pytest.raises(KeyChanged):
        await store.replace(record.revoked(NOW), was=record)
    assert await store.get(record.id) == kept


async def test_when_a_key_was_used_is_kept_whatever_else_is_changed(store: KeyStore) -> None:
    record, _ = await made(store)
    await store.used(record.id, at=NOW + 5)
    await changed(store, record.id, lambda was: was.changed(TERMS, {}))
    kept = await store.get(record.id)
    assert kept is not None
    assert (kept.last_used_at, kept.name) == (NOW + 5, TERMS.name)
    await store.used("key_" + "0" * 24, at=NOW)
    assert [one.id for one in await store.page(after=None, limit=9)] == [record.id]


# The table.


async def test_nothing_in_the_table_is_the_key(aws_state: StateOfTest) -> None:
    store = KeysInTable(aws_state.table, time=lambda: NOW)
    record, secret = await made(store)
    digits = hashlib.sha256(secret.encode()).hexdigest()
    items = aws_state.items()
    assert sorted(item["pk"] for item in items) == [f"key#{digits}", "keys"]
    assert secret not in str(items)
    assert record.hint == secret[-4:]


async def test_what_was_revoked_or_rotated_away_leaves_the_table_in_time(aws_state: StateOfTest) -> None:
    store = KeysInTable(aws_state.table, time=lambda: NOW)
    record, _ = await made(store)
    await changed(store, record.id, lambda was: was.rotated(NOW, grace=60)[0])
    ttls = {item["pk"]: item.get("ttl") for item in aws_state.items()}
    assert ttls.pop(f"key#{record.key.removeprefix('sha256:')}") == NOW + 60 + key_table.FORMER_FOR
    assert set(ttls.values()) == {None}
    await changed(store, record.id, lambda was: was.revoked(NOW))
    (item,) = aws_state.items()
    assert (item["pk"], item["ttl"]) == ("keys", NOW + key_table.REVOKED_FOR)


async def test_a_write_whose_answer_was_lost_is_known_again(
    aws_state: StateOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeysInTable(aws_state.table, time=lambda: NOW)
    transact = type(aws_state.table).transact

    async def twice(self: Any, writes: Any) -> None:
        await transact(self, writes)
        await transact(self, writes)  # as boto3 does where it heard nothing

    monkeypatch.setattr(type(aws_state.table), "transact", twice)
    record, secret = await made(store)
    revoked = await changed(store, record.id, lambda was: was.revoked(NOW))
    assert (await store.get(record.id), await store.find(fingerprint(secret))) == (revoked, None)


async def test_an_item_that_is_no_key_is_told_to_the_operator(aws_state: StateOfTest) -> None:
    store = KeysInTable(aws_state.table, time=lambda: NOW)
    await aws_state.table.put({**key_table.listing_key("key_" + "0" * 24).item(), "record": "{}"})
    with pytest.raises(StateUnavailable, match="is not a key"):
        await store.get("key_" + "0" * 24)


def test_a_secret_is_told_from_a_random_text_without_asking_anybody() -> None:
    secrets = [made_secret() for _ in range(200)]
    assert len(set(secrets)) == 200
    assert all(may_be_kept(secret) for secret in secrets)
    for secret in secrets:
        changed = "A" if secret[10] != "A" else "B"
        assert not may_be_kept(secret[:10] + changed + secret[11:])
    for other in ("", "sk-", secrets[0][:-1], secrets[0] + "0", "sk-" + "0" * 46, secrets[0].replace("sk-", "pk-")):
        assert not may_be_kept(other)
