"""Idempotency keys: which requests are the same one, and the claim that says so (ADR 0022).

The header is that of the IETF draft "The Idempotency-Key HTTP Header Field".
"""

import asyncio
import contextlib
import hashlib
import re
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Scope

from loopai import errors
from loopai.ingress import identity
from streams.messages import IdempotencyClaim

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = {"Idempotent-Replayed": "true"}
"""What an answer has that is not the first one to its request; the name is Stripe's."""
KEY_CHARACTERS_MAX: Final = 255

Key = Annotated[str, msgspec.Meta(pattern=rf"\A[!-~]{{1,{KEY_CHARACTERS_MAX}}}\Z")]
"""Visible ASCII."""
_KEY: Final = re.compile(rf"[!-~]{{1,{KEY_CHARACTERS_MAX}}}")


class Keyed(msgspec.Struct, frozen=True, kw_only=True):
    """A request with a key."""

    name: str
    """Of its claim: the hash of its tenant and its key."""
    fingerprint: str
    """Of the request, but for how long it waits."""

    def require_same(self, claim: IdempotencyClaim) -> None:
        """IDEMPOTENCY_KEY_REUSED: *claim* is of another request."""
        if claim.fingerprint != self.fingerprint:
            raise errors.ApiError(
                "IDEMPOTENCY_KEY_REUSED",
                f"{HEADER}: another request was sent with this key, with another method, path, "
                "query or body; take a new key for a new request",
            )


def of_header(scope: Scope) -> str | None:
    """The key in the header of a request, if there is one. INVALID_QUERY."""
    given = Headers(scope=scope).getlist(HEADER)
    if not given:
        return None
    # The draft has a string in quotes (RFC 9651), most clients send it without.
    key = re.sub(r'^"(.*)"$', r"\1", given[0])
    if len(given) > 1 or _KEY.fullmatch(key) is None:
        raise errors.ApiError(
            "INVALID_QUERY",
            f"{HEADER}: expected one key of 1 to {KEY_CHARACTERS_MAX} visible ASCII characters, "
            "such as a UUID",
        )
    return key


def keyed(scope: Scope, key: str, body: bytes) -> Keyed:
    """The request of *scope* with *key* and *body*."""
    tenant = identity.of_scope(scope).tenant
    query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    # Who asks again may have more patience, or less.
    told = sorted(pair for pair in query if pair[0] != "wait")
    digest = hashlib.sha256(repr((scope["method"], scope["path"], told)).encode())
    digest.update(body)
    return Keyed(
        # No tenant has this character in its name.
        name=hashlib.sha256(f"{tenant}\0{key}".encode()).hexdigest(),
        fingerprint=digest.hexdigest(),
    )


class Turns:
    """One at a time for each name, in this process."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Inside, nobody else has a turn of *name*."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._wanted[name] += 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name], self._locks[name]
