"""Images beside the prompts of sessions: shown to a model that sees, kept with the question, in the table too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Settings
from tests.web.conftest import MODEL, target_of
from tests.web.session_kit import SYSTEM, answer, assistant, begin, configured, history, seen, turn, user
from web.session_items import body_of, to_item, to_session
from web.sessions import Message, Session, SessionKey, context

if TYPE_CHECKING:
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine

DOT = "data:image/png;base64,iVBORw0KGgo="
OTHER = "data:image/png;base64,iVBORw0KGgp="


def seeing(*, vision: bool = True) -> Settings:
    settings = configured()
    models = [model.model_copy(update={"vision": vision}) for model in settings.models.available_models]
    return settings.model_copy(
        update={"models": settings.models.model_copy(update={"available_models": tuple(models)})}
    )


def shown(text: str, *urls: str) -> Json:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": text}, *images]}


@pytest.fixture
def served(serve: Any, hand_engine: HandEngine) -> Served:
    result: Served = serve(target_of(hand_engine.url, kind="sglang"), settings=seeing())
    return result


async def test_an_image_is_shown_with_its_question_in_later_turns_too_and_kept_with_it(
    served: Served, hand_engine: HandEngine
) -> None:
    response, talk = await begin(served, hand_engine, turn("what is this?", images=[DOT]))
    assert seen(talk) == [SYSTEM, shown("what is this?", DOT)]
    await answer(talk, "a dot")
    await response.rest()
    response, talk = await begin(served, hand_engine, turn("sure?"))
    assert seen(talk) == [SYSTEM, shown("what is this?", DOT), assistant("a dot"), user("sure?")]
    await answer(talk, "yes")
    await response.rest()
    assert (await history(served))[1] == {**user("what is this?"), "images": [DOT]}


async def test_one_is_shown_without_a_session_as_well(served: Served, hand_engine: HandEngine) -> None:
    response, talk = await begin(served, hand_engine, {"model": MODEL, "prompt": "what?", "images": [DOT, OTHER]})
    assert seen(talk) == [shown("what?", DOT, OTHER)]
    await answer(talk, "dots")
    await response.rest()


@pytest.mark.parametrize("session", ["s", None])
async def test_a_model_that_does_not_see_is_a_400_that_names_the_field_and_keeps_nothing(
    serve: Any, hand_engine: HandEngine, http: Any, session: str | None
) -> None:
    blind = serve(target_of(hand_engine.url, kind="sglang"), settings=seeing(vision=False))
    body = turn("what?", images=[DOT]) | {"session-id": session}
    async with http.post(blind.url + "/chat/completions", json=body) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"], error["code"]) == (400, "images", "unsupported_value")
    assert await history(blind) == []


INSIDE = "http://169.254.169.254/latest/meta-data/"
LEADING_INSIDE = {
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": INSIDE}}]}]
    },
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": INSIDE}]}]},
    "/v1/messages": {
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": INSIDE}}]}],
    },
    "/chat/completions": {"prompt": "what?", "images": [INSIDE]},
}  # fmt: skip


@pytest.mark.parametrize("path", LEADING_INSIDE)
async def test_an_engine_is_not_made_to_fetch_what_its_caller_cannot_reach(
    serve: Any, hand_engine: HandEngine, http: Any, path: str
) -> None:
    body = {"model": MODEL, "stream": True, **LEADING_INSIDE[path]}
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=seeing())
    async with http.post(served.url + path, json=body) as response:
        assert response.status == 400
        assert "data:image" in await response.text()
    settings = seeing()
    allowed = settings.model_copy(update={"security": settings.security.model_copy(update={"fetch_images": True})})
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=allowed)
    async with http.post(served.url + path, json=body):
        talk = await hand_engine.next()
        assert INSIDE in str(talk.body), "the first one that the engine hears of is this one"


@pytest.mark.parametrize("images", [["file:///etc/passwd"], ["/etc/passwd"], [DOT] * 9, "nonsense", [1]])
async def test_what_is_no_list_of_some_addresses_of_images_is_a_400(served: Served, http: Any, images: Any) -> None:
    async with http.post(served.url + "/chat/completions", json=turn("what?", images=images)) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"].startswith("images")


async def test_completions_take_none(served: Served, http: Any) -> None:
    body = {"model": MODEL, "prompt": "once", "images": [DOT]}
    async with http.post(served.url + "/completions", json=body) as response:
        assert (response.status, (await response.json())["error"]["param"]) == (400, "images")


QUESTION = Message(role="user", content="what?", images=(DOT,))
ASKED = Session(
    key=SessionKey("public", "s"), system="", expires_at=9.0,
    messages=(QUESTION, Message(role="assistant", content="a dot"), Message(role="user", content="sure?")),
)  # fmt: skip


def test_a_model_that_does_not_see_is_spared_those_that_another_one_was_shown() -> None:
    assert context(ASKED, 3)[0] == user("what?")
    assert context(ASKED, 3, sees=True)[0] == shown("what?", DOT)


def test_an_image_counts_in_a_context() -> None:
    assert QUESTION.most_tokens > Message(role="user", content="what?").most_tokens + 1000


def test_a_table_keeps_them() -> None:
    body = body_of(ASKED)
    item = to_item(ASKED, write="w", used="1.0", leased_until=None, body=body)
    assert to_session(ASKED.key, item, body, now=1.0).messages == ASKED.messages
