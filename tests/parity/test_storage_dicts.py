"""`modal.Dict`, from outside and from containers."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parity.kit import Target


@pytest.fixture(scope="module")
def shared(target: Target) -> Iterator[modal.Dict]:
    name = f"dict-{target.session}"
    yield modal.Dict.from_name(name, create_if_missing=True, client=target.client).hydrate()
    modal.Dict.objects.delete(name, client=target.client, allow_missing=True)


@pytest.fixture
def empty(shared: modal.Dict) -> modal.Dict:
    shared.clear()
    return shared


@pytest.mark.row("Storage", "Dict: get, put, pop and their operators")
def test_a_value_is_found_by_its_key_until_it_is_taken(empty: modal.Dict) -> None:
    empty["key"] = {"a": [1, 2]}
    empty[("a", 1)] = b"by a tuple"
    assert (empty["key"], empty[("a", 1)], empty.get("key")) == ({"a": [1, 2]}, b"by a tuple", {"a": [1, 2]})
    assert (empty.contains("key"), "key" in empty, "other" in empty) == (True, True, False)
    assert empty.pop("key") == {"a": [1, 2]}
    del empty[("a", 1)]
    assert (empty.get("key"), empty.get("key", "default"), empty.len()) == (None, "default", 0)


@pytest.mark.row("Storage", "Dict: get, put, pop and their operators")
def test_a_key_that_is_not_there_is_a_key_error(empty: modal.Dict) -> None:
    with pytest.raises(KeyError, match=f"nobody not in dict {empty.object_id}"):
        empty["nobody"]
    with pytest.raises(KeyError, match="nobody"):
        empty.pop("nobody")
    assert empty.pop("nobody", None) is None


@pytest.mark.row("Storage", "Dict: skip_if_exists")
def test_a_key_that_is_there_is_left_alone_when_that_is_asked_for(empty: modal.Dict) -> None:
    assert empty.put("lock", "mine", skip_if_exists=True)
    assert not empty.put("lock", "yours", skip_if_exists=True)
    assert empty["lock"] == "mine"
    assert empty.put("lock", "hers")
    assert empty["lock"] == "hers"


@pytest.mark.row("Storage", "Dict: update, len, clear")
def test_many_entries_are_put_at_once_counted_and_cleared(empty: modal.Dict) -> None:
    empty.update({"a": 1, 2: "b"}, c=3)
    empty.update({"a": 4})
    assert (empty.len(), empty["a"], empty[2], empty["c"]) == (3, 4, "b", 3)
    empty.clear()
    assert empty.len() == 0


@pytest.mark.row("Storage", "Dict: keys, values, items")
def test_everything_is_listed_whatever_there_is(empty: modal.Dict) -> None:
    contents = {number: "v" * number for number in range(0, 3000, 30)}
    empty.update(contents)
    assert dict(empty.items()) == contents
    assert sorted(empty.keys()) == sorted(contents)
    assert sorted(empty.values()) == sorted(contents.values())


@pytest.mark.row("Storage", "Dict: asynchronous")
async def test_all_of_it_can_be_awaited(empty: modal.Dict) -> None:
    await empty.put.aio("a", 1)
    await empty.update.aio({"b": 2})
    assert await empty.get.aio("a") == 1
    assert await empty.contains.aio("b")
    assert sorted([key async for key in empty.keys.aio()]) == ["a", "b"]
    assert sorted([item async for item in empty.items.aio()]) == [("a", 1), ("b", 2)]
    assert await empty.pop.aio("a") == 1
    assert await empty.len.aio() == 1
    await empty.clear.aio()
    assert await empty.len.aio() == 0


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("it cannot be put into bytes")


@pytest.mark.row("Storage", "Dict: what cannot be pickled")
def test_what_cannot_be_pickled_is_an_error_of_who_has_it(empty: modal.Dict) -> None:
    for use in (lambda: empty.put("key", Unpicklable()), lambda: empty.get(Unpicklable())):
        with pytest.raises(TypeError, match="it cannot be put into bytes"):
            use()
    assert empty.len() == 0


@pytest.mark.row("Storage", "Dict: what cannot be pickled")
def test_what_cannot_be_unpickled_is_an_error_that_names_the_dict(
    empty: modal.Dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("of_the_writer_alone")
    exec("class Value: pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    empty["key"] = module.__dict__["Value"]()
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(modal.exception.DeserializationError, match=f"value for key 'key' from Dict '{empty.name}'"):
        empty["key"]
    assert list(empty.keys()) == ["key"]


@pytest.mark.row("Storage", "Dict.from_name")
def test_a_dict_that_is_not_there_is_made_only_if_that_is_wanted(target: Target) -> None:
    name = f"missing-{target.session}"
    with pytest.raises(modal.exception.NotFoundError, match=name):
        modal.Dict.from_name(name, client=target.client).hydrate()
    made = modal.Dict.from_name(name, create_if_missing=True, client=target.client).hydrate()
    again = modal.Dict.from_name(name, client=target.client).hydrate()
    assert (made.object_id, made.name) == (again.object_id, name)
    modal.Dict.objects.delete(name, client=target.client)
    with pytest.raises(modal.exception.NotFoundError):
        made.len()


@pytest.mark.row("Storage", "Dict.from_id")
def test_a_dict_is_found_by_its_id(target: Target, empty: modal.Dict) -> None:
    empty["a"] = 1
    found = modal.Dict.from_id(empty.object_id, client=target.client)
    assert (found["a"], found.name) == (1, empty.name)
    with pytest.raises(modal.exception.NotFoundError):
        modal.Dict.from_id("di-" + "x" * 22, client=target.client).hydrate()


@pytest.mark.row("Storage", "Dict.objects")
def test_dicts_are_created_listed_newest_first_and_deleted(target: Target) -> None:
    names = [f"listed-{number}-{target.session}" for number in range(3)]
    objects, client = modal.Dict.objects, target.client
    for name in names:
        objects.create(name, client=client)
    with pytest.raises(modal.exception.AlreadyExistsError, match=names[0]):
        objects.create(names[0], client=client)
    objects.create(names[0], client=client, allow_existing=True)
    listed = [found.name for found in objects.list(client=client) if found.name in names]
    assert listed == names[::-1]
    newest, *_ = objects.list(client=client, max_objects=1)
    older = objects.list(client=client, created_before=newest.info().created_at, max_objects=1)
    assert [found.name for found in (newest, *older)] == names[:0:-1]
    for name in names:
        objects.delete(name, client=client)
    with pytest.raises(modal.exception.NotFoundError):
        objects.delete(names[0], client=client)
    objects.delete(names[0], client=client, allow_missing=True)


@pytest.mark.row("Storage", "Dict.info")
def test_a_dict_says_when_and_by_whom_it_was_made(shared: modal.Dict) -> None:
    info = shared.info()
    assert info.name == shared.name
    assert info.created_at.tzinfo is not None
    assert info.created_by


@pytest.mark.row("Storage", "Dict.ephemeral")
def test_an_ephemeral_dict_has_no_name_and_is_in_no_list(target: Target) -> None:
    with modal.Dict.ephemeral(client=target.client) as first, modal.Dict.ephemeral(client=target.client) as second:
        first["a"] = 1
        assert (first["a"], second.len(), first.info().name) == (1, 0, None)
        assert first.object_id not in [found.object_id for found in modal.Dict.objects.list(client=target.client)]


@pytest.mark.slow
@pytest.mark.row("Storage", "Dict: limits")
def test_an_update_has_up_to_10_000_entries(empty: modal.Dict) -> None:
    empty.update(dict.fromkeys(range(10_000)))
    with pytest.raises(modal.exception.InvalidError, match="10,000"):
        empty.update(dict.fromkeys(range(10_001)))
    assert empty.len() == 10_000


@pytest.mark.slow
@pytest.mark.row("Storage", "Dict: limits")
def test_an_entry_has_up_to_100_mib(empty: modal.Dict) -> None:
    empty["large"] = bytes(99 << 20)
    assert len(empty["large"]) == 99 << 20
    with pytest.raises(modal.exception.RequestSizeError, match=r"Dict\.put request is too large"):
        empty["larger"] = bytes(101 << 20)


@pytest.mark.row("Storage", "Dicts and Queues in containers")
def test_containers_and_clients_see_the_same_dict(target: Target, empty: modal.Dict) -> None:
    app = target.deploy("storing.py")
    empty["here"] = 1
    assert app.function("write").remote(empty.name, "there", [2]) == ["here"]
    assert dict(empty.items()) == {"here": 1, "there": [2]}


@pytest.mark.row("Storage", "Dicts and Queues in containers")
def test_a_dict_that_an_app_names_is_made_when_it_is_used_and_outlives_its_containers(target: Target) -> None:
    app, key = target.deploy("storing.py"), target.session
    assert [app.function("count").remote(key) for _ in range(2)] == [1, 2]
    kept = modal.Dict.from_name("parity-storing", client=target.client)
    assert kept.pop(key) == 2


@pytest.mark.row("Storage", "Dicts and Queues as values")
def test_a_dict_comes_back_as_the_result_of_a_call(target: Target) -> None:
    name = f"held-{target.session}"
    held = target.deploy("storing.py").function("holder").remote(name)
    assert isinstance(held, modal.Dict)
    assert held["by"] == "the container"
    modal.Dict.objects.delete(name, client=target.client)


@pytest.mark.row("Storage", "Dicts and Queues as values")
def test_a_dict_holds_a_queue(target: Target, empty: modal.Dict) -> None:
    with modal.Queue.ephemeral(client=target.client) as queue:
        empty["queue"] = queue
        queue.put("an item")
        assert empty["queue"].get() == "an item"
