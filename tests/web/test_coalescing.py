"""Where a write is dear, events that come close together share one; nobody waits for the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.web.conftest import chat, until

if TYPE_CHECKING:
    from tests.web.doubles import HandClock, HandEngine


async def test_the_first_token_goes_at_once_and_close_followers_go_together(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock, coalesce_seconds=0.01)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("first")
    await response.until(b"first")

    await talk.token("second")
    await until(lambda: any(due <= 0.01 for due in clock.pending()))
    await talk.token("third")
    assert b"second" not in response.received
    seen = len(response.received)
    # Time stands still: nothing but the clock can let them through, and then one write has both.
    clock.advance(0.01)
    await response.until(b"third")
    chunk = response.received[seen:]
    assert chunk.count(b"data: ") == 2
    assert chunk.count(b"\r\n") == 2, "one chunk of the HTTP response: its size, its data"
    response.leave()


async def test_without_coalescing_each_event_goes_as_it_comes(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    for word in (b"first", b"second", b"third"):
        await talk.token(word.decode())
        await response.until(word)
    response.leave()
