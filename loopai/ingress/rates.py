"""Rate limits and quotas of callers: who has had enough gets 429, and is told when to come again.

A rate counts requests, a quota executions. In memory it takes 3 µs; where a Redis is configured,
ingresses count together in there, and each by itself while it does not answer (ADR 0025).
"""

import functools
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from loopai import errors, rate
from loopai.ingress import identity
from loopai.settings import Settings

SCOPE_KEY: Final = "loopai.limits"
"""Where an ASGI scope has the Usage of its request."""
WINDOWS_MAX: Final = 20_000
"""Callers times limits whose counts one process keeps; from then on the oldest are forgotten."""

Kind = Literal["requests", "executions"]


class Usage:
    """What a request has been told of its limits; its answer says it in headers."""

    __slots__ = ("limit", "remaining", "reset_s", "taken")

    def __init__(self) -> None:
        self.taken: set[Kind] = set()
        """What this request has been counted for, whichever way it took."""
        self.limit = 0
        self.remaining = 0
        self.reset_s = 0

    def note(self, of: rate.Rate, left: int, reset_s: int) -> None:
        """Of a rate and a quota the one is told of which less is left."""
        if not self.limit or left < self.remaining:
            self.limit, self.remaining, self.reset_s = of.amount, left, reset_s

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_s),
        ]


class Shared(Protocol):
    """Counts that ingresses share."""

    async def take(self, key: str, of: rate.Rate, cost: int) -> tuple[bool, rate.Count] | None:
        """Whether *cost* was taken, and the count then; None: nobody answers."""


class Limiter:
    """Counts what callers take of their limits. Closed by nobody: it holds no more than memory."""

    def __init__(
        self,
        settings: Settings,
        shared: Shared | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._default: dict[Kind, str] = {
            "requests": settings.rate_limit,
            "executions": settings.execution_quota,
        }
        self._any = bool(settings.rate_limit or settings.execution_quota)
        self._shared = shared
        self._clock = clock
        self._windows: dict[tuple[str, rate.Rate], rate.Window] = {}

    @property
    def is_shared(self) -> bool:
        """Whether counting takes a wait."""
        return self._shared is not None

    def limits(self, who: identity.Identity) -> bool:
        """Whether *who* has any limit."""
        return self._any or bool(who.rate or who.quota)

    async def spend(self, scope: Scope, kind: Kind, cost: int = 1) -> None:
        """Count *cost* against the limit of who asks, once for each request. RATE_LIMITED."""
        who = identity.of_scope(scope)
        of = self._due(scope, who, kind)
        if of is None or not cost:
            return
        found = None
        if self._shared is not None:
            found = await self._shared.take(_key(who, kind), of, cost)
        self._note(scope, kind, of, cost, found or self._take(who, kind, of, cost))

    def spend_now(self, scope: Scope, kind: Kind, cost: int = 1) -> None:
        """The same, in memory. RATE_LIMITED."""
        who = identity.of_scope(scope)
        of = self._due(scope, who, kind)
        if of is not None:
            self._note(scope, kind, of, cost, self._take(who, kind, of, cost))

    async def spend_most(self, scope: Scope, cost: int) -> int:
        """As many executions of *cost* as are left, of a request that is counted piece by piece."""
        try:
            await self.spend(scope, "executions", cost)
        except errors.ApiError:
            left = usage(scope).remaining
            if not left:
                return 0
            try:
                await self.spend(scope, "executions", left)
            except errors.ApiError:
                return 0  # Others were faster.
            return left
        finally:
            usage(scope).taken.discard("executions")
        return cost

    def _due(self, scope: Scope, who: identity.Identity, kind: Kind) -> rate.Rate | None:
        """What is to be counted against; None where nothing is, or was already."""
        text = (who.rate if kind == "requests" else who.quota) or self._default[kind]
        if not text or kind in usage(scope).taken:
            return None
        return _parsed(text)

    def _take(
        self, who: identity.Identity, kind: Kind, of: rate.Rate, cost: int
    ) -> tuple[bool, rate.Count]:
        now = self._clock()
        key = (_key(who, kind), of)
        window = self._windows.get(key)
        if window is None:
            self._make_room(now)
            window = self._windows[key] = rate.Window(of)
        return window.take(now, cost), window.count(now)

    def _make_room(self, now: float) -> None:
        if len(self._windows) < WINDOWS_MAX:
            return
        self._windows = {key: one for key, one in self._windows.items() if not one.is_over(now)}
        if len(self._windows) >= WINDOWS_MAX:
            # Several at once: to look through all of them costs a millisecond.
            self._windows = dict(list(self._windows.items())[WINDOWS_MAX // 10 :])

    def _note(
        self, scope: Scope, kind: Kind, of: rate.Rate, cost: int, found: tuple[bool, rate.Count]
    ) -> None:
        taken, count = found
        told = usage(scope)
        left = rate.remaining(of, count)
        if taken:
            told.taken.add(kind)
            told.note(of, left, int(count.left_s) + 1)
            return
        after_s = rate.retry_after_s(of, count, cost)
        told.limit, told.remaining, told.reset_s = of.amount, left, after_s
        raise errors.ApiError("RATE_LIMITED", _reason(kind, of, cost, left), retry_after_s=after_s)


class Limited:
    """Middleware: counts requests to the API. RATE_LIMITED."""

    def __init__(self, app: ASGIApp, limiter: Limiter) -> None:
        self._app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["path"].startswith("/api/v1/")
            and self._limiter.limits(identity.of_scope(scope))
        ):
            await self._limiter.spend(scope, "requests")
        await self._app(scope, receive, send)


def usage(scope: Scope) -> Usage:
    """What the request of *scope* has been told so far."""
    found: Usage = scope.setdefault(SCOPE_KEY, Usage())
    return found


def headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What an answer says of the limits of who asked; nothing where there are none."""
    found: Usage | None = scope.get(SCOPE_KEY)
    return found.headers() if found is not None and found.limit else []


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> rate.Rate:
    return rate.parse(text)


def _key(who: identity.Identity, kind: Kind) -> str:
    """Whose count it is: a key's, or that of all of a tenant who have none."""
    return f"{kind}:{who.tenant}:{who.key_id}"


def _reason(kind: Kind, of: rate.Rate, cost: int, left: int) -> str:
    (period,) = (name for name, length_s in rate.PERIODS_S.items() if length_s == of.period_s)
    more = f"; {cost} were asked for, {left} are left" if cost > 1 else ""
    return f"more than {of.amount} {kind} a {period}{more}; wait for Retry-After"
