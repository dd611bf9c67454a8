"""The first request of all finds no engine: it waits, is told so, and is answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conformance.targets import Target
from tests.conformance.wire import Connection
from tests.sglang.differences import expected
from tests.sglang.service import BOOT_SECONDS

if TYPE_CHECKING:
    from tests.sglang.service import Service


def test_who_comes_first_hears_of_the_boot_and_is_answered_and_the_phases_are_logged(service: Service) -> None:
    assert service.state("demo") == "cold"
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "stream": True, "temperature": 0}
    with Connection(Target(url=service.url, model="demo")) as connection:
        connection.socket.settimeout(BOOT_SECONDS)
        assert connection.ask(body).status == 200
        events = list(connection.events())
    assert events[0].is_comment, "it is told at once that an engine boots"
    assert events[-1].data == "[DONE]"
    answer = [event.data for event in events[:-1] if not event.is_comment]
    text = "".join(choice["delta"].get("content") or "" for chunk in answer for choice in chunk["choices"])
    assert text.startswith("Hello")
    (told,) = re.findall(r"model demo is ready: (.*)", service.log.read_text(errors="replace"))
    assert re.findall(r"(\w+) [0-9.]+ s", told) == expected("boot", service.kind), told
    print(f"{service.kind}: {told}")
