"""The domain of chats that the service remembers: a session, its turns, what of it a model sees. Pure.

And what a store of sessions must do, whatever it is made of.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from web.caller import Caller
    from web.dialects.pieces import Usage

PUBLIC_OWNER = "public"
TEMPLATE_TOKENS = 64
"""What a chat template may add around all messages (a preamble, the opening of the answer)…"""
MESSAGE_TOKENS = 8
"""… and around each."""
IMAGE_TOKENS = 1536
"""What an image may cost: a model that sees makes about as many of one of 1,024 pixels a side."""
LONGEST_TITLE = 80
"""Characters of a title that is made of a question."""


@dataclass(frozen=True, order=True)
class SessionKey:
    owner: str
    id: str


def owner_of(caller: Caller) -> str:
    """Whose sessions a caller sees: those of the key, or without one everybody's."""
    return caller.identity if caller.identity.startswith("key:") else PUBLIC_OWNER


@dataclass(frozen=True, kw_only=True)
class Message:
    """`interrupted`: an answer that did not come to its end. `tokens`: what it costs in a context, template included,
    as the engine counted it; None: not known."""

    role: Literal["user", "assistant"]
    content: str
    interrupted: bool = False
    tokens: int | None = None
    images: tuple[str, ...] = ()
    """Their URLs (`data:`, mostly): shown with a question to a model that sees."""

    @property
    def most_tokens(self) -> int:
        """What it costs at most: no tokenizer here makes more tokens of a text than it has bytes (UTF-8)."""
        if self.tokens is not None:
            return self.tokens
        return len(self.content.encode()) + MESSAGE_TOKENS + IMAGE_TOKENS * len(self.images)


@dataclass(frozen=True, kw_only=True)
class Session:
    """One session as it was at one `version`; every change makes the next one. Times are seconds since the epoch."""

    key: SessionKey
    system: str
    """The system prompt; empty: none."""
    messages: tuple[Message, ...] = ()
    turn: str | None = None
    """The turn under way, by its random id. Its question is the last message."""
    version: int = 1
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    """Random: tells this session from a later one of the same key, and is what the engine's affinity goes by."""
    expires_at: float
    """When it is forgotten, unless a turn is under way."""
    created_at: float = 0.0
    used_at: float = field(default=0.0, compare=False)
    """When this version was kept, as the store tells."""
    title: str = ""
    """For people: the beginning of the first question, unless somebody has set another."""
    model: str | None = None
    """The model that counted the tokens."""
    counted: int | None = None
    """Tokens of the whole context at the end of the last turn, where the engine told them."""
    window: int = 0
    """How many messages that context had."""

    def asked(
        self, prompt: str, *, turn: str, system: str | None, model: str, expires_at: float, images: tuple[str, ...] = ()
    ) -> Session:
        """A turn begins. `system`: a new system prompt; None leaves it."""
        known = self if self.model == model and system in (None, self.system) else self._uncounted()
        return replace(
            known,
            system=self.system if system is None else system,
            messages=(*known.messages, Message(role="user", content=prompt, images=images)),
            turn=turn, model=model, expires_at=expires_at, version=self.version + 1,
            title=self.title or title_of(prompt),
        )  # fmt: skip

    def answered(
        self, text: str, *, interrupted: bool, usage: Usage | None, sent: int, most: int, expires_at: float
    ) -> Session:
        """The turn ends. `sent`: how many of the last messages the model saw; `most`: how many are kept."""
        question, answer = self.messages[-1], Message(role="assistant", content=text, interrupted=interrupted)
        counted = None
        if usage is not None and not interrupted:
            counted = usage.prompt + usage.completion
            answer = replace(answer, tokens=usage.completion)
            question = replace(question, tokens=self._cost_of_question(usage.prompt, sent))
        messages = (*self.messages[:-1], question, answer)
        return replace(
            self, messages=messages[-most:], turn=None, counted=counted, window=sent + 1, expires_at=expires_at,
            version=self.version + 1,
        )  # fmt: skip

    def unasked(self, before: Session) -> Session:
        """The turn comes to nothing: the session as it was `before`, in a version of its own."""
        return replace(before, version=self.version + 1)

    def rolled_back(self, amount: int, *, expires_at: float) -> Session:
        """Without its last `amount` messages; the system prompt is none of them."""
        kept = self.messages[: max(0, len(self.messages) - amount)]
        return replace(
            self, messages=kept, counted=None, window=0, expires_at=expires_at, version=self.version + 1
        )  # fmt: skip

    def changed(self, *, title: str | None, system: str | None) -> Session:
        """With another title or system prompt, where they are given."""
        known = self if system in (None, self.system) else self._uncounted()
        return replace(
            known, title=self.title if title is None else title, system=self.system if system is None else system,
            version=self.version + 1,
        )  # fmt: skip

    def forked(self, id: str, *, messages: int, now: float, expires_at: float) -> Session:  # noqa: A002
        """A new session of the same owner that begins as this one did, with its first `messages`."""
        return Session(
            key=SessionKey(self.key.owner, id), system=self.system, messages=self.messages[:messages],
            title=self.title, model=self.model, created_at=now, expires_at=expires_at,
        )  # fmt: skip

    def is_turn_of(self, other: Session) -> bool:
        """Whether the turn that is under way on `other` still is."""
        return (self.token, self.turn) == (other.token, other.turn)

    def history(self) -> list[dict[str, object]]:
        """What callers are shown: the system prompt first; `interrupted` only where it is so."""
        told: list[dict[str, object]] = [{"role": "system", "content": self.system}] if self.system else []
        for message in self.messages:
            mark = {"interrupted": True} if message.interrupted else {}
            images = {"images": list(message.images)} if message.images else {}
            told.append({"role": message.role, "content": message.content, **images, **mark})
        return told

    def _cost_of_question(self, prompt: int, sent: int) -> int | None:
        """What the context has grown by with the question; the first one's cost holds the system prompt's."""
        if sent == 1 and len(self.messages) == 1:
            return prompt
        grown = sent == self.window + 1 and self.counted is not None
        return max(prompt - (self.counted or 0), 0) if grown else None

    def _uncounted(self) -> Session:
        messages = tuple(replace(message, tokens=None) for message in self.messages)
        return replace(self, messages=messages, counted=None, window=0)


def title_of(prompt: str) -> str:
    """The beginning of a question, as a title."""
    words = " ".join(prompt[: 4 * LONGEST_TITLE].split())
    return words if len(words) <= LONGEST_TITLE else words[: LONGEST_TITLE - 1].rstrip() + "…"


def fitting(session: Session, *, most_messages: int, most_tokens: int) -> int:
    """How many of a session's last messages a model may see: at most so many, costing with the system prompt surely at
    most so many tokens, and beginning with a question. The last one is seen in any case."""
    messages = session.messages
    seen_before = session.counted is not None and session.window == len(messages) - 1
    if seen_before and len(messages) <= most_messages:
        grown = (session.counted or 0) + MESSAGE_TOKENS + messages[-1].most_tokens
        if grown <= most_tokens:
            return len(messages)
    left, fits = most_tokens - _frame(session), 1
    for shown, message in enumerate(reversed(messages[-most_messages:]), start=1):
        left -= message.most_tokens
        if left < 0:
            break
        if message.role == "user":
            fits = shown
    return fits


def fewer(session: Session, shown: int) -> int | None:
    """The next try, when an engine finds `shown` messages too long: the newer half. None: nothing is left to drop."""
    starts = [n for n in range(1, shown // 2 + 1) if session.messages[-n].role == "user"]
    return starts[-1] if starts else None


def content_of(text: str, images: Sequence[str]) -> str | list[dict[str, Any]]:
    """A question as engines take it: a text, or parts where images are shown with it."""
    if not images:
        return text
    return [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in images)]


def context(session: Session, shown: int, *, sees: bool = False) -> list[dict[str, Any]]:
    """The messages that the model is sent: the system prompt and the last `shown`. Roles alternate, as chat templates
    want it: an answer that was interrupted before its first word is left out, questions in a row become one. A model
    that does not see (`sees`) is spared the images of earlier questions, which another one was shown; not those of the
    last one, so that it can say so."""
    told: list[dict[str, Any]] = [{"role": "system", "content": session.system}] if session.system else []
    said = (message for message in session.messages[-shown:] if message.content)
    for role, run in groupby(said, key=lambda message: message.role):
        group = list(run)
        images = [url for one in group if sees or one is session.messages[-1] for url in one.images]
        text = "\n\n".join(message.content for message in group)
        told.append({"role": role, "content": content_of(text, images)})
    return told


def _frame(session: Session) -> int:
    return len(session.system.encode()) + MESSAGE_TOKENS + TEMPLATE_TOKENS


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A session as a list of them tells it. `messages`: how many. Times are seconds since the epoch."""

    id: str
    title: str
    model: str | None
    messages: int
    created_at: float
    used_at: float
    expires_at: float

    @classmethod
    def of(cls, session: Session) -> Listed:
        return cls(
            id=session.key.id, title=session.title, model=session.model, messages=len(session.messages),
            created_at=session.created_at, used_at=session.used_at, expires_at=session.expires_at,
        )  # fmt: skip


class SessionStore(Protocol):
    """Keeps sessions. Every method is one conditional operation on one item (or one query), so that a table in a
    database can be a store as well as a dictionary. A session whose time has come is gone, unless a turn is under way
    on it; a turn whose process has died must not count as one for ever: that is the store's to notice."""

    async def load(self, key: SessionKey) -> Session | None: ...

    async def create(self, session: Session, *, most: int) -> None:
        """Keep a new session. Raises SessionConflict if there is one of this key, TooManySessions if its owner has
        `most` already."""

    async def save(self, session: Session) -> None:
        """Put `session` in the place of the same session's (`token`) last version. Raises SessionConflict if what is
        kept is not that."""

    async def delete(self, key: SessionKey, *, only: Session | None = None) -> None:
        """Forget it, whatever is under way on it. Nothing happens if there is none, or if `only` is given and what is
        kept is not that."""

    async def listed(self, owner: str) -> Sequence[Listed]:
        """An owner's sessions, the one used last first."""

    async def changed(self, session: Session) -> None:
        """Return once something other than `session` may be kept in its place: at once if it is so already. May return
        too early, never much too late."""
