"""Sessions as items of a table and back. Pure.

What conditions and indexes need are attributes; the rest is one JSON object, in the item (`body`) or, where it is
large, in an object of the bucket (`at`).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from infra import blueprint
from infra.table import Item, Key
from web.sessions import Listed, Message, Session, SessionKey

if TYPE_CHECKING:
    from collections.abc import Mapping

INLINE_BYTES = 64 * 1024
"""A larger body goes into the bucket."""
REMOVED_AFTER = 30 * 86400
"""Seconds after its end when DynamoDB itself removes a session, should nobody have done it."""
COUNTED_BY = "count"
LIFE = ("sk", "expires_at", "turn", "leased_until")
"""The attributes that tell whether a session lives…"""
LISTED = ("sk", "recent", *blueprint.LISTED)
"""… and those that a list of sessions tells of it, as the index has them."""
DUE = "session"
"""Under which the index `due` has sessions: by when they expire."""
OBJECTS = "sessions/"
"""How the names of the objects begin in which large bodies lie."""
_PREFIX = "session#"
_ID = "id#"


def partition(owner: str) -> str:
    return f"{_PREFIX}{owner}"


def item_key(key: SessionKey) -> Key:
    # Behind a prefix, for ids are the callers' own words.
    return Key(partition(key.owner), f"{_ID}{key.id}")


def key_of(key: Key) -> SessionKey:
    """Whose item that is."""
    return SessionKey(key.pk.removeprefix(_PREFIX), key.sk.removeprefix(_ID))


def counter_key(owner: str) -> Key:
    """Of the item that counts an owner's sessions, in its attribute `COUNTED_BY`."""
    return Key(partition(owner), "count")


def id_of(item: Mapping[str, Any]) -> str:
    return str(item["sk"]).removeprefix(_ID)


def object_name(session: Session, write: str) -> str:
    """Of the object in which a large body lies: new for each write, so that no reader finds another's."""
    owner = hashlib.sha256(session.key.owner.encode()).hexdigest()[:32]
    return f"{OBJECTS}{owner}/{session.token}/{session.version}-{write}.json"


def body_of(session: Session) -> bytes:
    return orjson.dumps({
        "system": session.system, "messages": [asdict(message) for message in session.messages],
        "counted": session.counted, "window": session.window,
    })  # fmt: skip


def to_item(session: Session, *, write: str, used: str, leased_until: float | None, body: bytes | str) -> Item:
    """`write`: random, by which the writer knows its own again. `used`: sorts by when. `leased_until`: of its turn.
    `body`: the bytes, or the name of the object that holds them."""
    item = {
        **item_key(session.key).item(), "token": session.token, "version": session.version, "write": write,
        "recent": used, "title": session.title, "messages": len(session.messages),
        "created_at": number(session.created_at), "expires_at": number(session.expires_at),
        "due": DUE, "due_at": number(session.expires_at), "ttl": int(session.expires_at) + REMOVED_AFTER,
        **({"at": body} if isinstance(body, str) else {"body": body}),
    }  # fmt: skip
    if session.model is not None:
        item["model"] = session.model
    if session.turn is not None:
        item |= {"turn": session.turn, "leased_until": number(leased_until or 0.0)}
    return item


def to_session(key: SessionKey, item: Mapping[str, Any], body: bytes, *, now: float) -> Session:
    """A turn whose lease has run out has died with its container: its answer is told as interrupted."""
    held = orjson.loads(body)
    messages = tuple(Message(**{**message, "images": tuple(message.get("images", ()))}) for message in held["messages"])
    turn = item.get("turn")
    if turn is not None and lease_over(item, now=now):
        turn = None
        messages = (*messages, Message(role="assistant", content="", interrupted=True))
    return Session(
        key=key, system=held["system"], messages=messages, turn=turn, version=int(item["version"]),
        token=item["token"], expires_at=float(item["expires_at"]), created_at=float(item["created_at"]),
        used_at=_used_at(item), title=item["title"], model=item.get("model"), counted=held["counted"],
        window=held["window"],
    )  # fmt: skip


def to_listed(item: Mapping[str, Any]) -> Listed:
    """Of an item's attributes LISTED."""
    return Listed(
        id=id_of(item), title=item["title"], model=item.get("model"), messages=int(item["messages"]),
        created_at=float(item["created_at"]), used_at=_used_at(item), expires_at=float(item["expires_at"]),
    )  # fmt: skip


def _used_at(item: Mapping[str, Any]) -> float:
    return int(str(item["recent"]).partition(".")[0]) / 1000


def lease_over(item: Mapping[str, Any], *, now: float) -> bool:
    return "turn" in item and float(item["leased_until"]) <= now


def expired(item: Mapping[str, Any], *, now: float) -> bool:
    """Whether its time has come, and no living turn is under way on it."""
    return ("turn" not in item or lease_over(item, now=now)) and float(item["expires_at"]) <= now


def number(seconds: float) -> Decimal:
    """As DynamoDB takes it, digit for digit."""
    return Decimal(repr(float(seconds)))
