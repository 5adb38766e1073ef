"""API keys: made, listed and revoked in KV, and looked up by their hash in memory (ADR 0021)."""

import asyncio
import contextlib
import hashlib
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Final, get_args

import msgspec

from loopai import errors, rate
from loopai.catalog import mirror
from streams import codec, ids, store, subjects, topology
from streams.connection import Connection
from streams.messages import ApiKey, Scope

PREFIX: Final = "lpk_"
"""What every key begins with, so that people and scanners of leaked secrets know one."""
SECRET_BYTES: Final = 32
KEYS_MAX: Final = 1_000
"""Of one tenant. At the limit a new key takes the place of the one that ended first, if any did."""
SCOPES: Final = frozenset(get_args(Scope))
HOME: Final = "default"
"""The tenant whose admins make keys of any tenant (ADR 0021)."""
LOOK_S: Final = 0.05
"""Between questions to the bus about keys that are not known, however many strangers try some."""
_KEY: Final = re.compile(rb"lpk_[A-Za-z0-9_-]{43}")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a credential gives, as the hot path needs it."""

    tenant: str
    name: str
    key_id: str = ""
    """Of the key, or the subject of a token; empty where nobody was asked."""
    scopes: frozenset[str] = frozenset()
    """All of them where it has `admin`."""
    expires_at: float = math.inf
    """Unix time in seconds; infinite where it never does."""
    rate: str = ""
    """Requests, such as `100/second`; empty: as the settings say."""
    quota: str = ""
    """Executions, such as `10000/day`; the same."""


def covered(scopes: Iterable[str]) -> frozenset[str]:
    """*scopes* and those that they bring: `admin` brings all."""
    held = SCOPES.intersection(scopes)
    return SCOPES if "admin" in held else held


class Keyring:
    """All keys. Reads cost nothing and lag the bus by 2-3 ms, so a revocation is felt as soon."""

    def __init__(self, connection: Connection) -> None:
        self._bucket = store.Bucket(connection, topology.KEYS, codec.KEY)
        self._mirror = mirror.Mirror(connection, topology.KEYS, codec.KEY, on_change=self._changed)
        self._grants: dict[str, Grant] = {}
        self._next_look_at = 0.0

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Keyring"]:
        """Watch while inside; complete on entry. store.StoreUnavailable."""
        try:
            await self._mirror.start()
            yield self
        finally:
            await self._mirror.stop()

    def find(self, key: bytes) -> Grant | None:
        """What *key* gives; None where it is unknown, revoked or run out.

        The time that a look into a dict takes tells of hashes only, which nobody can aim at.
        """
        grant = self._grants.get(hashlib.sha256(key).hexdigest())
        return None if grant is None or grant.expires_at <= time.time() else grant

    async def look(self, key: bytes) -> Grant | None:
        """The same, of a key that a colleague may have made just now."""
        found = self.find(key)
        if found is None and _KEY.fullmatch(key):
            await self._wait_for_look()
            await self._mirror.settle()
            found = self.find(key)
        return found

    async def _wait_for_look(self) -> None:
        """Those who come within `LOOK_S` of a question share the next one."""
        wait_s = self._next_look_at - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._next_look_at = max(self._next_look_at, time.monotonic() + LOOK_S)

    async def create(
        self,
        *,
        tenant: str,
        name: str,
        scopes: Iterable[Scope],
        created_by: str,
        now: datetime,
        expires_at: datetime | None = None,
        rate: str = "",
        quota: str = "",
    ) -> tuple[ApiKey, str]:
        """A new key, as it is kept, and the key itself, which nobody can tell again.

        TOO_MANY_KEYS. The caller has checked what it is given.
        """
        await self._make_room(tenant, now)
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = ApiKey(
            id=ids.new(),
            tenant=tenant,
            name=name,
            scopes=tuple(sorted(set(scopes))),
            hash=hashlib.sha256(secret.encode()).hexdigest(),
            last4=secret[-4:],
            created_at=now,
            created_by=created_by,
            expires_at=expires_at,
            rate=rate,
            quota=quota,
        )
        await self._mirror.reach(await self._bucket.create(key.hash, key))
        return key, secret

    async def of(self, tenant: str) -> list[ApiKey]:
        """All keys of *tenant*, the oldest first: those that ended as well."""
        await self._mirror.settle()
        found = (entry.value for entry in self._mirror.entries.values())
        return sorted((key for key in found if key.tenant == tenant), key=lambda key: key.id)

    def valid(self) -> int:
        """How many open something now, of all tenants."""
        now = time.time()
        return sum(grant.expires_at > now for grant in self._grants.values())

    async def revoke(self, tenant: str | None, key_id: str, *, by: str, now: datetime) -> ApiKey:
        """End a key of *tenant*, or of any where it is None, for ever. KEY_NOT_FOUND."""
        await self._mirror.settle()
        for entry in list(self._mirror.entries.values()):
            key = entry.value
            if key.id == key_id and tenant in {None, key.tenant}:
                break
        else:
            raise errors.ApiError("KEY_NOT_FOUND", f"no key {key_id[:64]!r}")
        if key.revoked_at is None:
            key = msgspec.structs.replace(key, revoked_at=now, revoked_by=by)
            # Whatever else became of it meanwhile, it ends: this is no matter of who was first.
            await self._mirror.reach(await self._bucket.put(key.hash, key))
        return key

    async def _make_room(self, tenant: str, now: datetime) -> None:
        held = await self.of(tenant)
        if len(held) < KEYS_MAX:
            return
        ended = [(end, key.hash) for key in held if (end := ended_at(key)) and end <= now]
        if not ended:
            raise errors.ApiError(
                "TOO_MANY_KEYS", f"the tenant has {KEYS_MAX} keys; revoke one that nobody needs"
            )
        await self._bucket.delete(min(ended)[1])

    def _changed(self, change: store.Change[ApiKey]) -> None:
        key = change.value
        if key is None or key.revoked_at is not None or key.hash != change.key:
            self._grants.pop(change.key, None)
            return
        self._grants[change.key] = Grant(
            key_id=key.id,
            tenant=key.tenant,
            name=key.name,
            scopes=covered(key.scopes),
            expires_at=key.expires_at.timestamp() if key.expires_at else math.inf,
            rate=key.rate,
            quota=key.quota,
        )


def ended_at(key: ApiKey) -> datetime | None:
    """When *key* ends or ended; None where that is not known yet."""
    ends = [moment for moment in (key.expires_at, key.revoked_at) if moment is not None]
    return min(ends, default=None)


def wrong_with(
    name: str, scopes: Iterable[str], tenant: str, expires_at: datetime | None, now: datetime
) -> errors.FieldError | None:
    """What a new key cannot have; None where nothing is wrong."""
    form = "expected 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
    if not subjects.is_name(name):
        return errors.FieldError("/name", form)
    if not subjects.is_name(tenant):
        return errors.FieldError("/tenant", form)
    asked = tuple(scopes)
    if not asked or not SCOPES.issuperset(asked):
        return errors.FieldError("/scopes", f"expected some of {', '.join(get_args(Scope))}")
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
        return errors.FieldError(
            "/expires_at", "expected a time to come, with its offset, such as 2030-01-31T00:00:00Z"
        )
    return None


def wrong_with_rates(**rates: str) -> errors.FieldError | None:
    """Which of *rates* is none; None where all are, or are empty."""
    for name, text in rates.items():
        try:
            _ = text and rate.parse(text)
        except ValueError as error:
            return errors.FieldError(f"/{name}", str(error))
    return None
