"""Answers that take longer than a request may, and callers who have left, on a clock that hurries."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from emulator.clock import RealClock
from emulator.emulator import Emulator
from tests.parity.kit import for_emulator
from tests.parity.web_kit import get, post, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from tests.parity.kit import Target

HURRIED = {150.0: 1.0, 10.0: 0.5}
"""The time to the first byte, and an application's time after its caller has left: seconds on Modal, and here."""

pytestmark = [pytest.mark.slow, pytest.mark.emulator_only("its clock hurries")]


class HurriedClock(RealClock):
    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return super().timeout(HURRIED.get(seconds, seconds) if seconds is not None else None)


@pytest.fixture(scope="module")
def hurried() -> Iterator[Target]:
    with Emulator(clock=HurriedClock()) as emulator:
        target = for_emulator(emulator)
        yield target
        target.client.close()


@pytest.fixture
def site(hurried: Target) -> str:
    url = hurried.deploy("web.py").url("site")
    get(url + "/state")
    return url


@pytest.mark.row("Web", "303 after 150 s")
def test_a_late_answer_is_fetched_with_get_where_the_redirect_points(site: str) -> None:
    first = post(site + "/slow?seconds=2.5", content=b"body")
    assert first.status_code == 303
    result = httpx2.URL(site).join(first.headers["location"])
    assert "__modal_function_call_id=fc-" in str(result)
    again = post(str(result))
    assert (again.status_code, again.text) == (400, "modal-http: bad redirect method\n")
    assert get(str(result)).status_code == 303
    assert get(str(result), follow_redirects=True).text == "late body"
    assert get(str(result)).text == "late body"


@pytest.mark.row("Web", "303 after 150 s")
def test_curl_and_a_browser_follow_from_post_to_get(site: str) -> None:
    command = ["curl", "-s", "-L", "--data", "body", site + "/slow?seconds=2.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "late body"


@pytest.mark.row("Web", "disconnect")
def test_an_input_that_goes_on_without_its_caller_is_cancelled_after_a_grace_period(hurried: Target, site: str) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.get(site + "/slow?seconds=50", timeout=0.5)
    function = hurried.deploy("web.py").function("site")
    until(lambda: function.get_current_stats().num_running_inputs == 0, seconds=30)
    began = time.monotonic()
    assert get(site + "/state").status_code == 200
    assert time.monotonic() - began < 30
