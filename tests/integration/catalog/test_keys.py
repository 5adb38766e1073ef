"""API keys on the bus: what is kept of them, and how soon everybody knows."""

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from loopai import errors
from loopai.catalog import keys
from streams import codec, ids, store, topology
from streams.messages import ApiKey
from tests.wait import until

NOW = datetime.now(UTC)


@pytest.fixture
async def rings(bus):
    """Two processes that know the same keys."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(keys.Keyring(bus).opened()) for _ in range(2)]


async def create(ring, tenant="acme", scopes=("execute",), **fields):
    return await ring.create(
        tenant=tenant, name="ci", scopes=scopes, created_by="test", now=NOW, **fields
    )


async def test_a_key_is_known_everywhere_by_its_hash_alone(rings, bus):
    """256 random bits with a prefix; the bus holds no more than their SHA-256 and four letters."""
    key, secret = await create(rings[0])
    assert secret.startswith("lpk_")
    assert len(secret) == len("lpk_") + 43
    grant = await rings[1].look(secret.encode())
    assert grant is not None
    assert (grant.tenant, grant.name, grant.scopes) == ("acme", "ci", {"execute"})
    assert key.hash == hashlib.sha256(secret.encode()).hexdigest()
    stored = await bus.jetstream.get_last_msg(topology.KEYS.stream, f"$KV.keys.{key.hash}")
    assert secret not in stored.data.decode()
    assert key.last4 == secret[-4:]


async def test_a_revocation_is_felt_everywhere_within_moments(rings):
    """Another process, which was not told by anybody but the bus, refuses it."""
    key, secret = await create(rings[0])
    await until(lambda: rings[1].find(secret.encode()) is not None)
    ended = await rings[0].revoke("acme", key.id, by="boss", now=NOW)
    assert (ended.revoked_at, ended.revoked_by) == (NOW, "boss")
    assert rings[0].find(secret.encode()) is None
    await until(lambda: rings[1].find(secret.encode()) is None, within_s=1)
    assert await rings[1].look(secret.encode()) is None


async def test_a_second_revocation_changes_nothing(rings):
    """The history says who was first."""
    key, _ = await create(rings[0])
    await rings[0].revoke("acme", key.id, by="boss", now=NOW)
    again = await rings[1].revoke("acme", key.id, by="other", now=NOW + timedelta(days=1))
    assert (again.revoked_at, again.revoked_by) == (NOW, "boss")


async def test_a_key_ends_when_its_time_is_up(rings):
    """Nobody has to say so: it is looked at when the key is used."""
    ends = datetime.now(UTC) + timedelta(seconds=0.3)
    _, secret = await create(rings[0], expires_at=ends)
    assert rings[0].find(secret.encode()) is not None
    await until(lambda: rings[0].find(secret.encode()) is None, within_s=2)
    assert datetime.now(UTC) >= ends


async def test_admin_brings_every_scope(rings):
    """What the hot path asks for is one look into a set."""
    _, secret = await create(rings[0], scopes=("admin",))
    grant = rings[0].find(secret.encode())
    assert grant is not None
    assert grant.scopes == keys.SCOPES


async def test_keys_are_listed_and_revoked_by_tenant(rings):
    """An id of another tenant's key is like one that never was."""
    key, secret = await create(rings[0])
    await create(rings[0], tenant="beta")
    assert [each.id for each in await rings[1].of("acme")] == [key.id]
    for key_id in (key.id, ids.new()):
        with pytest.raises(errors.ApiError) as caught:
            await rings[1].revoke("beta", key_id, by="x", now=NOW)
        assert (caught.value.code, caught.value.detail) == ("KEY_NOT_FOUND", f"no key {key_id!r}")
    assert await rings[1].look(secret.encode()) is not None


async def test_a_tenant_has_so_many_keys_and_no_more(rings, bus):
    """At the limit a key that has ended makes room, the one that ended first before all others."""
    bucket = store.Bucket(bus, topology.KEYS, codec.KEY)
    many = [sample(number) for number in range(keys.KEYS_MAX)]
    await asyncio.gather(*(bucket.create(each.hash, each) for each in many))
    with pytest.raises(errors.ApiError) as caught:
        await create(rings[0])
    assert caught.value.code == "TOO_MANY_KEYS"
    await create(rings[0], tenant="beta")
    for number, ago in ((7, 1), (3, 2)):
        ended = msgspec.structs.replace(many[number], revoked_at=NOW - timedelta(hours=ago))
        await bucket.put(ended.hash, ended)
    await create(rings[0])
    left = {each.id for each in await rings[0].of("acme")}
    assert len(left) == keys.KEYS_MAX
    assert many[3].id not in left
    assert many[7].id in left


async def test_what_lies_under_another_hash_opens_nothing(rings, bus):
    """Whoever may write one key of the bucket by mistake makes no second door."""
    bucket = store.Bucket(bus, topology.KEYS, codec.KEY)
    odd = sample(1)
    await bucket.create("00" * 32, odd)
    await rings[0].of("acme")
    assert not rings[0]._grants


def sample(number: int) -> ApiKey:
    return ApiKey(
        id=ids.new(),
        tenant="acme",
        name="ci",
        scopes=("execute",),
        hash=f"{number:064x}",
        last4="abcd",
        created_at=NOW,
        created_by="test",
    )
