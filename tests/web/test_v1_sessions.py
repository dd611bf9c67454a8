"""`/v1/sessions`: sessions as objects, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.web.conftest import target_of
from tests.web.session_kit import SYSTEM, answer, ask, assistant, begin, configured, history, turn, user

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine


class Sessions:
    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._root = f"{url}/v1/sessions"

    async def __call__(self, method: str, *path: str, body: Any = None, status: int = 200, **query: Any) -> Any:
        where = "/".join([self._root, *(quote(part, safe="") for part in path)])
        async with self._http.request(method, where, json=body, params=query) as response:
            told = await (response.json() if "json" in response.content_type else response.text())
            assert response.status == status, told
            return told


@pytest.fixture
def sessions(http: aiohttp.ClientSession, served: Served) -> Sessions:
    return Sessions(http, served.url)


async def test_a_session_is_made_named_and_deleted(sessions: Sessions, served: Served) -> None:
    made = await sessions("POST", body={"id": "mine", "system_prompt": "Be brief."}, status=201)
    assert {**made, "created_at": 0, "last_used_at": 0, "expires_at": 0} == {
        "id": "mine", "object": "session", "title": "", "model": None, "messages": 0,
        "created_at": 0, "last_used_at": 0, "expires_at": 0,
    }  # fmt: skip
    assert made["expires_at"] - made["created_at"] == 3600
    changed = await sessions("PATCH", "mine", body={"title": "Of mine"})
    assert changed["title"] == "Of mine"
    await ask(served, "q", session="mine")
    seen = await sessions("GET", "mine")
    assert (seen["title"], seen["model"], seen["messages"]) == ("Of mine", "scripted", 2)
    assert (await sessions("GET", "mine", "messages"))[0] == {"role": "system", "content": "Be brief."}
    assert await sessions("DELETE", "mine") == {"id": "mine", "object": "session.deleted", "deleted": True}
    for request in (("GET", "mine"), ("DELETE", "mine"), ("GET", "mine", "messages"), ("GET", "mine", "export")):
        told = await sessions(*request, status=404)
        assert told["error"]["code"] == "session_not_found"


async def test_an_id_is_made_up_and_never_taken_twice(sessions: Sessions) -> None:
    first, second = [(await sessions("POST", status=201))["id"] for _ in range(2)]
    assert first != second
    told = await sessions("POST", body={"id": first}, status=409)
    assert told["error"]["code"] == "session_exists"


async def test_a_session_is_called_what_was_first_asked_in_it(sessions: Sessions, served: Served) -> None:
    await ask(served, "What  is\nlove?", "Baby?", session="a")
    await ask(served, "x" * 500, session="b")
    long, short = (await sessions("GET"))["data"]
    assert short["title"] == "What is love?"
    assert long["title"] == "x" * 79 + "…"


async def test_they_are_listed_in_pages_the_last_used_first(sessions: Sessions, served: Served) -> None:
    for name in "abc":
        await ask(served, "q", session=name)
    page = await sessions("GET", limit=2)
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (["c", "b"], True)
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", "c", "b")
    rest = await sessions("GET", limit=2, after=page["last_id"])
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["a"], False)
    assert await sessions("GET", after="a") == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False
    }  # fmt: skip


async def test_editing_a_message_forks_before_it(sessions: Sessions, served: Served) -> None:
    await ask(served, "q0", "q1", session="s")
    before = await history(served)
    fork = await sessions("POST", "s", "fork", body={"messages": 2}, status=201)
    assert (fork["messages"], fork["title"]) == (2, "q0")
    await ask(served, "q1, but better", session=fork["id"])
    forked = await history(served, fork["id"])
    assert forked[:3] == before[:3]
    assert [one["content"] for one in forked if one["role"] == "user"] == ["q0", "q1, but better"]
    assert await history(served) == before
    await sessions("POST", "nothing", "fork", body={"messages": 2}, status=404)


async def test_a_session_is_exported_as_data_and_as_a_text(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured())
    response, talk = await begin(served, hand_engine, turn("Who?"))
    await answer(talk, "I, ", "**me**.")
    await response.rest()
    sessions = Sessions(http, served.url)
    told = await sessions("GET", "s", "export")
    assert (told["object"], told["id"], told["title"]) == ("session.export", "s", "Who?")
    assert told["messages"] == [SYSTEM, user("Who?"), assistant("I, **me**.")]
    text = await sessions("GET", "s", "export", format="markdown")
    assert text.startswith("# Who?\n\n## System\n\n")
    assert text.endswith("## User\n\nWho?\n\n## Assistant\n\nI, **me**.\n")


async def test_a_change_waits_for_the_turn_under_way(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured(turn_wait_seconds=0.0))
    sessions = Sessions(http, served.url)
    response, talk = await begin(served, hand_engine, turn())
    await talk.begin()
    await talk.token("a")
    await response.until(b"data: a")
    told = await sessions("PATCH", "s", body={"title": "t"}, status=409)
    assert told["error"]["code"] == "session_busy"
    await talk.token("", finish="stop")
    await talk.end()
    await response.rest()
    assert (await sessions("PATCH", "s", body={"title": "t"}))["title"] == "t"


@pytest.mark.parametrize(
    ("path", "method", "body", "param"),
    [
        ((), "POST", {"id": ""}, "id"), ((), "POST", {"id": "a\nb"}, "id"), ((), "POST", {"name": "x"}, "name"),
        ((), "POST", {"title": 1}, "title"), (("s",), "PATCH", {"title": "x" * 201}, "title"),
        (("s", "fork"), "POST", {}, "messages"), (("s", "fork"), "POST", {"messages": -1}, "messages"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(
    sessions: Sessions, path: tuple[str, ...], method: str, body: Json, param: str
) -> None:
    told = await sessions(method, *path, body=body, status=400)
    assert told["error"]["param"] == param


async def test_there_are_only_so_many(serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession) -> None:
    served = serve(engine, settings=configured(limits={"max_sessions": 1}))
    sessions = Sessions(http, served.url)
    await sessions("POST", body={"id": "a"}, status=201)
    for path, body in (((), {}), (("a", "fork"), {"messages": 0})):
        told = await sessions("POST", *path, body=body, status=429)
        assert told["error"]["code"] == "max_sessions_reached"
