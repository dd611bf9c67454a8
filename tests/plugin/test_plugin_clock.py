"""The fixture `clock`: an emulator whose time the test turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import shop

from emulator.clock import RealClock
from emulator.testing.options import WrongOption, options
from emulator.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from emulator.emulator import Emulator
    from emulator.faults.faults import Faults
    from emulator.testing.apps import Deploy


def test_a_day_passes(deploy: Deploy, clock: VirtualClock, emulator: Emulator) -> None:
    deploy(shop)
    assert shop.price.remote(2) == 6
    clock.advance("24h")
    assert shop.counts.len() == 24
    assert not emulator.containers(function="price")


@pytest.mark.slow
async def test_a_day_passes_in_an_asynchronous_test(deploy: Deploy, clock: VirtualClock) -> None:
    await deploy.aio(shop)
    await clock.advance_async("24h")
    assert await shop.counts.len.aio() == 24


def test_a_boot_that_is_slower_than_its_limit_fails(deploy: Deploy, clock: VirtualClock, faults: Faults) -> None:
    deploy(shop)
    fault = faults.slow_boot("price", 1000)
    call = shop.price.spawn(2)
    clock.advance("10m")
    assert fault.struck == 1
    with pytest.raises(Exception, match="startup timeout of 300s"):
        call.get()


def test_time_is_real_where_no_test_turns_it(emulator: Emulator) -> None:
    assert isinstance(emulator.clock, RealClock)


@pytest.mark.emulator(clock="virtual")
def test_a_mark_makes_time_virtual_too(emulator: Emulator) -> None:
    assert isinstance(emulator.clock, VirtualClock)


def test_a_mark_that_forbids_what_the_test_asks_for_is_refused() -> None:
    with pytest.raises(WrongOption, match="its mark says otherwise"):
        options([((), {"clock": "real"})], containers="thread", virtual=True)
