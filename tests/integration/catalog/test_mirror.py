import asyncio

import msgspec

from loopai.catalog import mirror
from streams import codec, connection, messages, provision, store, topology
from tests.wait import until


def _rollout(task_id: str, active: int) -> messages.Rollout:
    return messages.Rollout(task_id=task_id, active=active)


async def _holds(mirrored: mirror.Mirror[messages.Rollout], key: str, active: int) -> None:
    async with asyncio.timeout(20):
        while key not in mirrored.entries or mirrored.entries[key].value.active != active:
            await mirrored.settle()


async def test_own_writes_are_seen_once_reached(bus: connection.Connection) -> None:
    """Whoever waits for the revision that it wrote finds it in memory."""
    bucket = store.Bucket(bus, topology.ROLLOUTS, codec.ROLLOUT)
    mirrored = mirror.Mirror(bus, topology.ROLLOUTS, codec.ROLLOUT)
    await mirrored.start()
    for number in range(1, 50):
        await mirrored.reach(await bucket.put("a", _rollout("a", number)))
        assert mirrored.entries["a"].value.active == number
    await mirrored.stop()


async def test_a_value_of_another_make_stops_nobody(bus: connection.Connection) -> None:
    """Rubbish put into the bucket by hand is passed over; what comes after it is seen."""
    mirrored = mirror.Mirror(bus, topology.ROLLOUTS, codec.ROLLOUT)
    await mirrored.start()
    for key, value in (("odd", b"rubbish"), ("a", b"[1, 2]"), ("task.one.two", b"\xff")):
        await bus.jetstream.publish(f"$KV.rollouts.{key}", value)
    await store.Bucket(bus, topology.ROLLOUTS, codec.ROLLOUT).put("b", _rollout("b", 1))
    await _holds(mirrored, "b", 1)
    assert set(mirrored.entries) == {"b"}
    await mirrored.stop()


async def test_what_ran_out_is_forgotten_with_the_next_change(bus: connection.Connection) -> None:
    """Memory does not grow with keys that the broker has long since dropped without a word."""
    brief = msgspec.structs.replace(topology.ROLLOUTS, ttl_s=0.05)
    bucket = store.Bucket(bus, brief, codec.ROLLOUT)
    mirrored = mirror.Mirror(bus, brief, codec.ROLLOUT)
    await mirrored.start()
    await mirrored.reach(await bucket.put("old", _rollout("old", 1)))

    async def changed() -> bool:
        await mirrored.reach(await bucket.put("new", _rollout("new", 1)))
        return set(mirrored.entries) == set(mirrored.heard_at) == {"new"}

    await until(changed)
    await mirrored.stop()


async def test_an_empty_mirror_outlives_a_bucket_that_is_away(bus: connection.Connection) -> None:
    """A bucket that was empty and vanished for a while is followed again once it is back."""
    mirrored = mirror.Mirror(bus, topology.ROLLOUTS, codec.ROLLOUT)
    await mirrored.start()
    await bus.jetstream.delete_stream(topology.ROLLOUTS.stream)
    # The watch asks again every half second, and is refused at least once meanwhile.
    refused = asyncio.Event()
    watched = await bus.client.subscribe(
        f"$JS.API.CONSUMER.CREATE.{topology.ROLLOUTS.stream}.>", cb=_set(refused)
    )
    await asyncio.wait_for(refused.wait(), 20)
    await watched.unsubscribe()
    await provision.apply(bus, topology.topology())
    await store.Bucket(bus, topology.ROLLOUTS, codec.ROLLOUT).put("a", _rollout("a", 1))
    await _holds(mirrored, "a", 1)
    await mirrored.stop()


def _set(event: asyncio.Event):
    async def heard(_: object) -> None:
        event.set()

    return heard
