"""How much a caller may ask for in a minute: requests, and where it is configured tokens.

Requests are counted where they come in (`web.edge`, before their body is read) and, for whatever does not come that way
(a WebSocket's prompts), in the Generator; `Caller.counted` keeps one from being counted twice. Tokens are reserved by
the Generator, as many as the prompt may have and the answer may take, and settled by what the engine counted.

`MemoryLimiter` holds within one process, `web.shared_limits.SharedLimiter` across all containers.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from web.errors import RateLimited
from web.windows import MINUTE, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Limits
    from web.caller import Caller
    from web.clock import Clock
    from web.windows import Slot

MOST_ACCOUNTS = 100_000
"""Client addresses that are told apart at once."""
SHARED_ACCOUNTS = 1024
"""What the others share, by chance, while there are that many."""

Kind = Literal["requests", "tokens"]
REQUEST_HEADERS = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
TOKEN_HEADERS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


class Budget(NamedTuple):
    """What is left of a limit. `reset`: seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: float


class Standing(NamedTuple):
    requests: Budget
    tokens: Budget | None
    """None: not limited."""


class Reservation(Protocol):
    def settle(self, tokens: int) -> None:
        """So many were used. To be called once."""


class Limiter(Protocol):
    """What callers have used of what they may."""

    async def take(self, caller: Caller) -> None:
        """Count a request. Raises RateLimited."""

    async def reserve(self, caller: Caller, tokens: int) -> Reservation | None:
        """Set tokens aside for a request; None where they are not limited. Raises RateLimited."""

    def standing(self, caller: Caller) -> Standing:
        """As far as is known here, now."""

    def watch(self, on_decision: Callable[[bool], None]) -> None:
        """Tell it of each request from now on whether it was allowed (or else blocked), by requests or by tokens."""

    async def close(self) -> None:
        """Nothing more will be asked."""


def nobody_watches(_: bool) -> None: ...


class MemoryLimiter:
    """Exact within this process: see `Window`. Its memory is bounded: an account goes when nothing in it counts any
    more, and never before, so nobody can push out their own. Client addresses beyond MOST_ACCOUNTS share accounts
    meanwhile; an address that began in a shared one stays there as long as anything in it counts."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._on_decision: Callable[[bool], None] = nobody_watches
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    async def take(self, caller: Caller) -> None:
        now = self._clock.monotonic()
        account = self._account(caller, now)
        if wait := account.requests.room_in(1, now):
            self._on_decision(False)
            raise refusal("requests", account.requests.limit, wait)
        account.requests.add(1, now)
        self._keep(account, now)
        self._on_decision(True)

    async def reserve(self, caller: Caller, tokens: int) -> Reservation | None:
        now = self._clock.monotonic()
        account = self._account(caller, now)
        if account.tokens is None:
            return None
        if wait := account.tokens.room_in(tokens, now):
            self._on_decision(False)
            raise refusal("tokens", account.tokens.limit, wait, requested=tokens)
        slot = account.tokens.add(tokens, now)
        self._keep(account, now)
        return _Reserved(self, caller, account.tokens, slot, tokens)

    def standing(self, caller: Caller) -> Standing:
        now = self._clock.monotonic()
        account = self._accounts.get(caller.identity) or self._account(caller, now)
        return Standing(_budget(account.requests, now), _budget(account.tokens, now) if account.tokens else None)

    def watch(self, on_decision: Callable[[bool], None]) -> None:
        self._on_decision = on_decision

    async def close(self) -> None: ...

    def add_tokens(self, caller: Caller, tokens: int) -> None:
        """Count tokens that were used beyond what was set aside for them."""
        now = self._clock.monotonic()
        account = self._account(caller, now)
        if account.tokens is not None:
            account.tokens.add(tokens, now)
            self._keep(account, now)

    def now(self) -> float:
        return self._clock.monotonic()

    def __len__(self) -> int:
        return len(self._accounts)

    def _account(self, caller: Caller, now: float) -> _Account:
        """The caller's account; a new one is kept only once something is counted in it."""
        self._drop_idle(now)
        accounts, name = self._accounts, caller.identity
        if (own := accounts.get(name)) is not None:
            if caller.name is not None:  # a key, whose limits may be changed while it is in use
                own.set_limits(*self._limits_of(caller))
            return own
        # Keys are few, and each of them has to have its own.
        if caller.name is None and accounts:
            shared = f"shared:{hash(name) % SHARED_ACCOUNTS}"
            if (account := accounts.get(shared)) is not None:
                return account
            if len(accounts) >= MOST_ACCOUNTS:
                name = shared
        requests, tokens = self._limits_of(caller)
        return _Account(name, Window(requests), Window(tokens) if tokens else None)

    def _limits_of(self, caller: Caller) -> tuple[int, int | None]:
        requests = caller.requests_per_minute or self._limits.default_rate_limit_per_minute
        return requests, caller.tokens_per_minute or self._limits.default_tokens_per_minute

    def _keep(self, account: _Account, now: float) -> None:
        account.used_at = now
        self._accounts[account.name] = account
        self._accounts.move_to_end(account.name)

    def _drop_idle(self, now: float) -> None:
        """Accounts lie in the order of their last use, so the first ones are the first to be idle."""
        accounts = self._accounts
        while accounts:
            account = next(iter(accounts.values()))
            if account.used_at + MINUTE > now:
                break
            del accounts[account.name]


@dataclass(slots=True)
class _Account:
    name: str
    requests: Window
    tokens: Window | None
    used_at: float = 0.0

    def set_limits(self, requests: int, tokens: int | None) -> None:
        self.requests.limit = requests
        if tokens is None or self.tokens is None:
            self.tokens = Window(tokens) if tokens else None
        else:
            self.tokens.limit = tokens


@dataclass(slots=True)
class _Reserved:
    limiter: MemoryLimiter
    caller: Caller
    window: Window
    slot: Slot
    tokens: int

    def settle(self, tokens: int) -> None:
        if tokens < self.tokens:
            self.window.give_back(self.slot, self.tokens - tokens, self.limiter.now())
        elif tokens > self.tokens:
            self.limiter.add_tokens(self.caller, tokens - self.tokens)


def _budget(window: Window, now: float) -> Budget:
    remaining, reset = window.standing(now)
    return Budget(window.limit, remaining, reset)


def refusal(kind: Kind, limit: int, wait: float, *, requested: int | None = None) -> RateLimited:
    if math.isinf(wait):
        message = f"The request is too large: {limit} tokens a minute are allowed, and it may need {requested}."
        return RateLimited(f"{message} Ask less, or set a lower max_tokens.", kind=kind, retry_after=None)
    return RateLimited(
        f"Rate limit reached: {limit} {kind} a minute are allowed. Try again in {duration(wait)}.",
        kind=kind, retry_after=wait,
    )  # fmt: skip


def duration(seconds: float) -> str:
    """As OpenAI spells it: `0s`, `250ms`, `1s`, `6m0s`; rounded up, to the millisecond below a second."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(math.ceil(milliseconds / 1000), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def headers_of(standing: Standing) -> list[tuple[bytes, bytes]]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`."""
    told = _headers(REQUEST_HEADERS, standing.requests)
    return told if standing.tokens is None else told + _headers(TOKEN_HEADERS, standing.tokens)


def _headers(names: tuple[bytes, bytes, bytes], budget: Budget) -> list[tuple[bytes, bytes]]:
    limit, remaining, reset = budget
    values = (b"%d" % limit, b"%d" % remaining, duration(reset).encode())
    return list(zip(names, values, strict=True))
