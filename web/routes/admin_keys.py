"""`/admin/keys`: the API keys of the table, made, listed, changed, revoked and rotated by who has the scope `admin`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError

from infra.aws import StateUnavailable
from infra.key_records import KEY_ID, KeyRecord, new_key
from infra.key_store import KeyChanged, KeyIsRevoked, NoSuchKey, changed
from web.asgi import read_body
from web.auth import require_scope
from web.caller import caller_of
from web.dialects.keys import (
    ChangedKey,
    KeyObject,
    KeyPage,
    MadeKey,
    NewKey,
    RevokedKey,
    Rotation,
    changed_terms,
    key_object,
    key_page,
    made_key,
    terms_of,
)
from web.dialects.validation import explained, json_object
from web.errors import InvalidRequest, NotSupported
from web.key_errors import KeyConflict, KeyNotFound, KeyRevoked, KeysUnavailable, OwnKey
from web.known_keys import identity_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from infra.key_store import KeyStore
    from infra.settings import Settings
    from web.known_keys import KnownKeys
    from web.services import Services

log = logging.getLogger(__name__)

ROOT = "/admin/keys"
ONE = f"{ROOT}/{{key_id}}"
LONGEST_BODY = 64 * 1024

Given = TypeVar("Given", bound=BaseModel)
Answer = TypeVar("Answer")
Force = Annotated[bool, Query(description="Also when it is the key that this request is made with")]


def router(services: Services, known: KnownKeys | None) -> APIRouter:
    """`known`: what this container knows of the keys; None: it asks for none, or keeps none."""
    api = APIRouter(tags=["admin"])
    settings, clock = services.settings, services.clock

    def keys(request: Request) -> KeyStore:
        require_scope(caller_of(request.scope), "admin")
        if not settings.security.enable_auth:  # else anybody could make one that counts once keys are asked for
            raise NotSupported("This service asks for no keys (security.enable_auth), so there are none to administer.")
        if services.keys is None:
            raise NotSupported('This service keeps no keys beside its configuration\'s (state.kind is "memory").')
        return services.keys

    async def change(request: Request, key_id: str, make: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        record = await _told(changed(keys(request), key_id, make))
        if known is not None:
            known.forget(record)
        return record

    @api.get(ROOT, summary="The API keys of the table, the newest first")
    async def listed(
        request: Request,
        after: Annotated[str | None, Query(pattern=f"^{KEY_ID.pattern}$")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> KeyPage:
        return key_page(await _told(keys(request).page(after=after, limit=limit + 1)), limit=limit, now=clock.time())

    @api.post(ROOT, summary="Make an API key, which is told this once", status_code=201, **_body(NewKey))
    async def create(request: Request) -> MadeKey:
        store = keys(request)
        given = await _read(request, NewKey)
        _refuse_unknown_models(given.models, settings)
        if given.expires_at is not None and given.expires_at <= clock.time():
            raise InvalidRequest("The key would have expired already.", param="expires_at", code="invalid_value")
        record, secret = new_key(terms_of(given), labels=given.labels, now=clock.time())
        await _told(store.create(record))
        _audit(request, "made", record)
        return made_key(record, secret, clock.time())

    @api.get(ONE, summary="An API key", responses=_FAILURES)
    async def get(request: Request, key_id: str) -> KeyObject:
        record = await _told(keys(request).get(key_id))
        if record is None:
            raise KeyNotFound(key_id)
        return key_object(record, clock.time())

    @api.patch(ONE, summary="Change what an API key is for", **_body(ChangedKey))
    async def alter(request: Request, key_id: str, force: Force = False) -> KeyObject:
        keys(request)
        given = await _read(request, ChangedKey)
        _refuse_unknown_models(given.models or (), settings)

        def make(was: KeyRecord) -> KeyRecord:
            record = was.changed(changed_terms(was, given), was.labels if given.labels is None else given.labels)
            if "admin" not in record.scopes or record.status(clock.time()) != "active":
                _refuse_own(request, was, force=force)
            return record

        record = await change(request, key_id, make)
        _audit(request, "changed", record)
        return key_object(record, clock.time())

    @api.delete(ONE, summary="Revoke an API key for good", responses=_FAILURES)
    async def revoke(request: Request, key_id: str, force: Force = False) -> RevokedKey:
        def make(was: KeyRecord) -> KeyRecord:
            _refuse_own(request, was, force=force)
            return was.revoked(clock.time())

        record = await change(request, key_id, make)
        _audit(request, "revoked", record)
        return RevokedKey(id=record.id)

    @api.post(f"{ONE}/rotate", summary="Give an API key another secret, which is told this once", **_body(Rotation))
    async def rotate(request: Request, key_id: str) -> MadeKey:
        keys(request)
        given = await _read(request, Rotation)
        secret = ""

        def make(was: KeyRecord) -> KeyRecord:
            nonlocal secret
            record, secret = was.rotated(clock.time(), grace=given.grace_seconds)
            return record

        record = await change(request, key_id, make)
        _audit(request, "rotated", record)
        return made_key(record, secret, clock.time())

    return api


def _refuse_own(request: Request, record: KeyRecord, *, force: bool) -> None:
    if not force and caller_of(request.scope).identity == identity_of(record.id):
        raise OwnKey


def _refuse_unknown_models(labels: Sequence[str], settings: Settings) -> None:
    for n, label in enumerate(labels):
        if settings.models.find(label) is None:
            raise InvalidRequest("There is no such model.", param=f"models[{n}]", code="invalid_value")


def _audit(request: Request, what: str, record: KeyRecord) -> None:
    caller = caller_of(request.scope)
    log.info("API key %s (%r) was %s by %s (%r)", record.id, record.name, what, caller.identity, caller.name)


async def _told(work: Awaitable[Answer]) -> Answer:
    """Its answer, or what the caller is told in its place."""
    try:
        return await work
    except StateUnavailable as error:
        log.error("the API keys cannot be reached: %s", error)
        raise KeysUnavailable from error
    except NoSuchKey as error:
        raise KeyNotFound(str(error)) from None
    except KeyIsRevoked as error:
        raise KeyRevoked(str(error)) from None
    except KeyChanged:
        raise KeyConflict from None


async def _read(request: Request, schema: type[Given]) -> Given:
    body = await read_body(request.scope, request.receive, limit=LONGEST_BODY)
    given = json_object(body) if body else {}
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise explained(error.errors(include_url=False), given) from None


_FAILURES: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such key"},
    409: {"description": "It is revoked, or the key of this very request, or others changed it at the same time"},
    501: {"description": "This deployment keeps no keys, or asks for none"},
}


def _body(schema: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a body that is read here."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {
        "openapi_extra": {"requestBody": {"content": content}},
        "responses": {400: {"description": "The request is not valid"}, **_FAILURES},
    }
