"""What `loopai doctor` tries, part by part."""

import os
from collections.abc import AsyncIterator
from typing import Final, Literal

import msgspec
import nats.errors

from loopai import errors, settings
from loopai.catalog import keys
from loopai.catalog.stores import location, store
from loopai.cli import api, bus, failure, health
from streams import connection, presence, provision, topology
from streams import store as buckets

CONNECT_S: Final = 3.0
"""How long a broker or a Redis may take to answer."""
CHANGES_TOLD: Final = 3
FIRST_KEY: Final = "loopai key create first --scope admin --bus"

State = Literal["ok", "off", "failed"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one part is found to be. `off`: it is optional and not in use."""

    part: str
    state: State
    detail: str
    mend: str = ""
    """What to do about it, where it failed."""


async def findings(url: str) -> AsyncIterator[Finding]:
    """Each part as soon as it was tried; the API is the one at *url*."""
    try:
        known = settings.read(os.environ)
    except errors.StartupError as error:
        yield _failed("settings", str(error), "correct the variable; docs/reference/settings.md")
        known = settings.Settings()
    else:
        yield _ok("settings", _set(known))
    async for finding in _bus(known):
        yield finding
    yield await _store(known)
    yield await _cache(known)
    yield await _sandbox()
    yield await _api(url)


def _set(known: settings.Settings) -> str:
    changed = [
        f"LOOPAI_{name.upper()}"
        for name in known.__struct_fields__
        if getattr(known, name) != getattr(settings.Settings(), name)
    ]
    return f"other than default: {', '.join(changed)}" if changed else "all as by default"


async def _bus(known: settings.Settings) -> AsyncIterator[Finding]:
    try:
        connected = await connection.connect(
            known.nats_url,
            name="doctor",
            role=bus.role(known.nats_url),
            proof=known.nats_proof,
            timeout_s=CONNECT_S,
        )
    except connection.BrokerUnavailable as error:
        detail, _, mend = str(error).partition("; ")
        yield _failed("broker", detail, mend)
        return
    try:
        of = connected.client.connected_server_version
        version = f"{of.major}.{of.minor}.{of.patch}"
        yield _ok("broker", f"nats-server {version} at {settings.redacted(known.nats_url)}")
        yield await _streams(connected)
        yield await _keys(connected, known)
    finally:
        await connected.close()


async def _streams(connected: connection.Connection) -> Finding:
    wanted = topology.topology()
    try:
        changes = await provision.diff(connected, wanted)
    except (nats.errors.Error, TimeoutError) as error:
        return _failed("streams", f"the broker does not tell: {error!r}", "ask again")
    if not changes:
        count = len(wanted.streams) + len(wanted.buckets)
        return _ok("streams", f"{count} streams and buckets as they should be")
    named = ", ".join(f"{each.action} {each.name}" for each in changes[:CHANGES_TOLD])
    left = len(changes) - CHANGES_TOLD
    more = f" and {left} more" if left > 0 else ""
    return _failed("streams", f"to do: {named}{more}", "python -m streams apply")


async def _keys(connected: connection.Connection, known: settings.Settings) -> Finding:
    """Whether callers are asked for keys, and whether anybody has one."""
    try:
        required = known.auth_required
        async with keys.Keyring(connected).opened() as ring:
            valid = ring.valid()
    except errors.StartupError as error:
        return _failed("keys", str(error), "docs/how-to/secure.md")
    except buckets.StoreUnavailable as error:
        mend = "python -m streams apply; of several users of the broker, take the ingress's"
        return _failed("keys", str(error), mend)
    there = f"{valid} valid on the bus"
    if not required:
        return Finding(
            part="keys", state="off", detail=f"by these settings nobody is asked for one; {there}"
        )
    if not valid and not known.jwt_issuer:
        return _failed("keys", f"all are asked for one; {there}", FIRST_KEY)
    also = f", or a token of {known.jwt_issuer}" if known.jwt_issuer else ""
    return _ok("keys", f"all are asked for one{also}; {there}")


async def _store(known: settings.Settings) -> Finding:
    mend = "set LOOPAI_STORE_URL, or mend the place; docs/how-to/stores.md"
    try:
        place = location.parse(known.store)
        if isinstance(place, location.Folder) and not place.path.exists():
            return Finding(part="store", state="off", detail=f"{place.url} is not made yet")
        async with store.opened(known.store) as opened:
            return _ok("store", f"{opened.url} can be read and written")
    except errors.StartupError as error:
        return _failed("store", str(error), mend)


async def _cache(known: settings.Settings) -> Finding:
    if not known.redis_url:
        detail = "LOOPAI_REDIS_URL is not set: each process has its own memory only"
        return Finding(part="cache", state="off", detail=detail)
    import redis  # noqa: PLC0415 (0.2 s, for who has one)
    from redis.asyncio import Redis  # noqa: PLC0415

    shown = settings.redacted(known.redis_url)
    try:
        client = Redis.from_url(
            known.redis_url, socket_connect_timeout=CONNECT_S, socket_timeout=CONNECT_S
        )
        async with client:
            version = (await client.info("server"))["redis_version"]
    except (redis.RedisError, OSError, ValueError) as error:
        mend = "programs are read from the store meanwhile; start it, or unset LOOPAI_REDIS_URL"
        return _failed("cache", f"{shown}: {error}", mend)
    return _ok("cache", f"Redis {version} at {shown}")


async def _sandbox() -> Finding:
    from loopai.sandbox import doctor as sandbox  # noqa: PLC0415 (kept from `loopai --help`)

    found = await sandbox.inspect()
    if not found.fit:
        return _failed("sandbox", "; ".join(found.problems), "loopai sandbox doctor")
    return _ok("sandbox", f"programs are kept in; {found.cold_ms:.0f} ms from nothing")


async def _api(url: str) -> Finding:
    try:
        async with api.Api(url) as client:
            found = api.decode(await client.get("/health"), health.Health)
    except failure.Failure as error:
        return _failed("api", str(error), "start it with `loopai dev`, or give --url")
    wrong = [f"{part}: {state}" for part, state in found.checks.items() if state != "ok"]
    missing = [pool for pool in presence.NEEDED if not found.workers.get(pool)]
    if wrong:
        return _failed("api", "; ".join(wrong), "see what is said of that part above")
    if missing:
        commands = "; ".join(f"python -m workers {pool}" for pool in missing)
        return _failed("api", f"{url} has no {', '.join(missing)}", commands)
    pools = ", ".join(f"{count} {pool}" for pool, count in found.workers.items() if count)
    return _ok("api", f"version {found.version} at {url}, with {pools}")


def _ok(part: str, detail: str) -> Finding:
    return Finding(part=part, state="ok", detail=detail)


def _failed(part: str, detail: str, mend: str) -> Finding:
    return Finding(part=part, state="failed", detail=detail, mend=mend)
