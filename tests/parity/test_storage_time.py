"""What goes by itself: entries that nobody uses, objects whose owner has gone. On a clock that can be put forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal
import pytest

from emulator.clock import RealClock
from emulator.emulator import Emulator
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 24 * 3600.0

pytestmark = pytest.mark.emulator_only("its clock is put forward")


class ForwardClock(RealClock):
    forward = 0.0

    def time(self) -> float:
        return super().time() + self.forward

    def monotonic(self) -> float:
        return super().monotonic() + self.forward


@pytest.fixture(scope="module")
def clock() -> ForwardClock:
    return ForwardClock()


@pytest.fixture(scope="module")
def client(clock: ForwardClock) -> Iterator[modal.Client]:
    with Emulator(clock=clock) as emulator:
        client = client_of(emulator.environment)
        yield client
        client.close()


@pytest.mark.row("Storage", "Dict: entries expire")
def test_an_entry_goes_a_week_after_it_was_last_used(client: modal.Client, clock: ForwardClock) -> None:
    used = modal.Dict.from_name("used", create_if_missing=True, client=client)
    used.update({"read": 1, "left": 2})
    clock.forward += 6.9 * DAY
    assert (used.len(), used["read"]) == (2, 1)
    clock.forward += 0.2 * DAY
    assert list(used.items()) == [("read", 1)]
    assert used.get("left") is None
    clock.forward += 7 * DAY
    assert used.len() == 0


@pytest.mark.row("Storage", "Queue: partition_ttl")
def test_a_partition_goes_a_day_after_the_last_put(client: modal.Client, clock: ForwardClock) -> None:
    queue = modal.Queue.from_name("used", create_if_missing=True, client=client)
    queue.put(1)
    clock.forward += 0.9 * DAY
    queue.put(2)
    clock.forward += 0.9 * DAY
    assert queue.get() == 1
    clock.forward += 0.2 * DAY
    assert queue.len() == 0


@pytest.mark.row("Storage", "Dict.ephemeral")
@pytest.mark.row("Storage", "Queue.ephemeral")
@pytest.mark.parametrize("kind", [modal.Dict, modal.Queue])
def test_an_ephemeral_object_goes_when_its_owner_has_gone(
    client: modal.Client, clock: ForwardClock, kind: type[modal.Dict] | type[modal.Queue]
) -> None:
    with kind.ephemeral(client=client) as left:
        pass
    clock.forward += 899
    assert left.len() == 0
    clock.forward += 2
    with pytest.raises(modal.exception.NotFoundError, match=left.object_id):
        left.len()
