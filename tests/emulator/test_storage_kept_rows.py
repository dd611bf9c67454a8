"""What Dicts and Queues hold is there again after a restart, and what is damaged is told by its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.emulator import Emulator
from emulator.storage.kept_rows import KeptRows, packed, unpacked
from emulator.storage.sqlite_store import SqliteStore
from emulator.storage.store import StateError
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.storage.rows import Key, Value

KEYS = st.lists(st.one_of(st.binary(max_size=9), st.integers(0, 2**63 - 1)), min_size=1, max_size=3).map(tuple)
VALUES = st.lists(st.one_of(st.binary(max_size=9), st.floats(allow_nan=False)), max_size=3).map(tuple)


@given(KEYS, VALUES)
def test_a_row_is_read_as_it_was_written(key: Key, value: Value) -> None:
    assert unpacked(packed(key, value)) == (key, value)


@given(KEYS, VALUES, st.integers(1, 12))
def test_half_a_row_is_no_row(key: Key, value: Value, missing: int) -> None:
    whole = packed(key, value)
    try:
        read = unpacked(whole[:-missing])
    except Exception as error:
        assert type(error).__name__ in ("ValueError", "error")
    else:
        assert read != (key, value)


def test_what_can_not_be_read_is_told_by_its_place(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "file")
    store.put("rows", "di-1/place", b"\1x")
    store.commit()
    with pytest.raises(StateError, match=r"the record di-1/place \(rows\) can not be read"):
        KeptRows(store, "rows").load()
    store.close()


@pytest.mark.slow
def test_dicts_and_queues_go_on_where_they_were(tmp_path: Path) -> None:
    with Emulator(state_directory=tmp_path) as emulator:
        client = client_of(emulator.environment)
        kept = modal.Dict.from_name("kept", create_if_missing=True, client=client)
        kept.update({"a": 1, "b": [2], "gone": 3})
        kept.pop("gone")
        queue = modal.Queue.from_name("kept", create_if_missing=True, client=client)
        queue.put_many(["first", "second", "third"])
        queue.put("of a partition", partition="p")
        assert queue.get() == "first"
        modal.Dict.from_name("deleted", create_if_missing=True, client=client)["a"] = 1
        modal.Dict.objects.delete("deleted", client=client)
        kept_id = kept.object_id
        client.close()
    with Emulator(state_directory=tmp_path) as emulator:
        client = client_of(emulator.environment)
        kept = modal.Dict.from_name("kept", client=client).hydrate()
        assert (kept.object_id, dict(kept.items())) == (kept_id, {"a": 1, "b": [2]})
        queue = modal.Queue.from_name("kept", client=client)
        queue.put("fourth")
        assert queue.get_many(9) == ["second", "third", "fourth"]
        assert queue.get(partition="p") == "of a partition"
        assert [found.name for found in modal.Dict.objects.list(client=client)] == ["kept"]
        assert [place for place, _ in emulator.core.store.rows("dict-rows") if kept_id not in place] == []
        client.close()
    with Emulator(state_directory=tmp_path) as emulator:
        client = client_of(emulator.environment)
        assert modal.Queue.from_name("kept", client=client).len(total=True) == 0
        client.close()


@pytest.mark.slow
def test_a_default_environment_that_has_another_name_is_the_one_that_clients_are_told(tmp_path: Path) -> None:
    with Emulator(state_directory=tmp_path) as emulator:
        client = client_of(emulator.environment)
        modal.environments.update_environment("main", new_name="home", client=client)
        client.close()
    with Emulator(state_directory=tmp_path) as emulator:
        assert emulator.environment["MODAL_ENVIRONMENT"] == "home"
        client = client_of(emulator.environment)
        assert [found.name for found in modal.environments.list_environments(client=client)] == ["home"]
        client.close()
