"""Sticky sessions: `@modal.sessioned()`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import modal
import pytest

from tests.parity.web_kit import get, until

if TYPE_CHECKING:
    from tests.parity.kit import Target

pytestmark = pytest.mark.since("1.6")  # whose `app.server` takes what it documents


@pytest.fixture
def rooms(target: Target) -> modal.Server:
    return target.deploy("servers.py").server("Rooms")


def carrying(token: str) -> dict[str, str]:
    return {"Modal-Authorization": f"Bearer {token}"}


@pytest.mark.row("Servers", "@modal.sessioned")
def test_a_session_starts_a_container_and_all_its_requests_reach_it(rooms: modal.Server) -> None:
    url = str(rooms.get_url())
    assert get(url).status_code == 401
    with ThreadPoolExecutor(2) as pool:
        sessions = list(pool.map(lambda _: rooms.sessions.start(), range(2)))
    try:
        containers: list[str] = []
        for session in sessions:
            answers = {get(url, headers=carrying(session.token)).text for _ in range(3)}
            assert len(answers) == 1
            containers += answers
            told = get(url + "/head", headers=carrying(session.token)).text
            assert f"x-modal-server-session-id: {session.session_id}" in told.lower().replace("\r", "")
            assert session.token not in told
        assert len(set(containers)) == 2  # one session is as many as a container takes
    finally:
        for session in sessions:
            rooms.sessions.terminate(session.token)
    assert get(url, headers=carrying(sessions[0].token)).status_code in (401, 404)


@pytest.mark.row("Servers", "sessions.terminate")
def test_a_session_that_is_terminated_makes_room_for_one_that_waits(rooms: modal.Server) -> None:
    held = [rooms.sessions.start() for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rooms.sessions.start)
        until(lambda: not waiting.done())
        rooms.sessions.terminate(held[0].token)
        late = waiting.result(timeout=30)
    rooms.sessions.terminate(held[0].token)  # as often as one likes
    assert get(str(rooms.get_url()), headers=carrying(late.token)).status_code == 200
    for session in (held[1], late):
        rooms.sessions.terminate(session.token)


@pytest.mark.row("Servers", "sessions idle_timeout")
def test_a_session_without_requests_ends_by_itself(rooms: modal.Server) -> None:
    session = rooms.sessions.start(idle_timeout=1)
    assert get(str(rooms.get_url()), headers=carrying(session.token)).status_code == 200
    until(lambda: rooms._get_service_function().get_current_stats().num_running_inputs == 0)
    assert get(str(rooms.get_url()), headers=carrying(session.token)).status_code in (401, 404)


@pytest.mark.row("Servers", "@modal.sessioned")
def test_only_a_sessioned_server_has_sessions(target: Target) -> None:
    opened = target.deploy("servers.py").server("Open")
    opened.hydrate(target.client)
    with pytest.raises(modal.exception.Error):
        opened.sessions.start()
