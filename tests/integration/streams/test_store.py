"""Typed KV on a real broker: one truth, and everybody hears of it."""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from loopai.catalog.mirror import Mirror
from loopai.embedded.broker import Broker
from streams import codec, connection, store, topology
from streams.messages import Rollout, RolloutChange
from tests.wait import until

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def _bucket(bus: connection.Connection) -> store.Bucket[Rollout]:
    return store.Bucket(bus, topology.ROLLOUTS, codec.ROLLOUT)


def _rollout(active: int) -> Rollout:
    return Rollout(task_id="t", active=active)


async def test_what_was_written_is_read(bus: connection.Connection) -> None:
    """Absent, created, updated, deleted: each reads as what it is."""
    bucket = _bucket(bus)
    assert await bucket.get("t") is None

    revision = await bucket.create("t", _rollout(1))
    assert await bucket.get("t") == store.Entry(_rollout(1), revision)

    newer = await bucket.update("t", _rollout(2), revision)
    assert await bucket.get("t") == store.Entry(_rollout(2), newer)

    await bucket.delete("t")
    assert await bucket.get("t") is None
    assert await bucket.create("t", _rollout(3)) > newer


async def test_only_one_of_two_writers_wins(bus: connection.Connection) -> None:
    """Who writes on an old revision, or creates what is there, gets Conflict."""
    bucket = _bucket(bus)
    revision = await bucket.create("t", _rollout(1))

    with pytest.raises(store.Conflict):
        await bucket.create("t", _rollout(2))
    await bucket.update("t", _rollout(2), revision)
    with pytest.raises(store.Conflict):
        await bucket.update("t", _rollout(3), revision)
    with pytest.raises(store.Conflict):
        await bucket.delete("t", revision)
    assert (await bucket.get("t")).value.active == 2


async def test_a_hundred_writers_lose_no_update(bus: connection.Connection) -> None:
    """Read, change, compare-and-set, again on Conflict: every change is in the end result."""
    bucket = _bucket(bus)
    await bucket.create("t", _rollout(0))

    async def add(number: int) -> None:
        change = RolloutChange(at=WHEN, by=str(number), action="activate", version=number)
        while True:
            entry = await bucket.get("t")
            grown = Rollout(task_id="t", history=(*entry.value.history, change))
            with contextlib.suppress(store.Conflict):
                await bucket.update("t", grown, entry.revision)
                return

    await asyncio.gather(*(add(n) for n in range(20)))

    history = (await bucket.get("t")).value.history
    assert sorted(int(c.by) for c in history) == list(range(20))


async def test_a_watch_begins_with_what_is_there(bus: connection.Connection) -> None:
    """First the present, then the mark that it is complete, then changes and deletions."""
    bucket = _bucket(bus)
    await bucket.create("a", _rollout(1))
    await bucket.create("b", _rollout(1))
    await bucket.put("a", _rollout(2))

    async with contextlib.aclosing(bucket.watch()) as changes:
        present = {c.key: c.value.active for c in [await anext(changes), await anext(changes)]}
        assert present == {"a": 2, "b": 1}
        assert await anext(changes) is None
        await bucket.put("b", _rollout(5))
        assert (await anext(changes)).value == _rollout(5)
        await bucket.delete("a")
        gone = await anext(changes)
        assert (gone.key, gone.value) == ("a", None)


async def test_an_empty_bucket_is_complete_at_once(bus: connection.Connection) -> None:
    """Nobody waits for the first key ever."""
    async with contextlib.aclosing(_bucket(bus).watch()) as changes, asyncio.timeout(5):
        assert await anext(changes) is None


async def test_values_of_another_make_do_not_stop_a_watch(bus: connection.Connection) -> None:
    """What somebody else put into the bucket reads as deleted, and nobody waits for it."""
    await bus.jetstream.publish("$KV.rollouts.bad", b"not json")
    bucket = _bucket(bus)
    await bucket.create("good", _rollout(1))

    async with contextlib.aclosing(bucket.watch()) as changes:
        bad = await anext(changes)
        assert (bad.key, bad.value) == ("bad", None)
        assert (await anext(changes)).key == "good"
    with pytest.raises(codec.Undecodable):
        await bucket.get("bad")


async def test_a_mirror_outlives_what_it_does_not_understand(bus: connection.Connection) -> None:
    """An odd key is logged; what comes after it is heard."""

    def refuse(change: store.Change[Rollout]) -> None:
        if change.key == "odd":
            raise ValueError

    mirror = Mirror(bus, topology.ROLLOUTS, codec.ROLLOUT, on_change=refuse)
    await mirror.start()
    await _bucket(bus).put("odd", _rollout(1))
    await _bucket(bus).put("even", _rollout(2))
    await mirror.settle()
    assert mirror.entries["even"].value.active == 2
    await mirror.stop()


async def test_a_watch_goes_on_after_a_broker_restart(
    broker: Broker, bus: connection.Connection
) -> None:
    """The broker forgets the watch; the watch does not forget where it was."""
    bucket = _bucket(bus)
    seen: list[int | None] = []

    async def follow() -> None:
        async for change in bucket.watch():
            if change is not None and change.value is not None:
                seen.append(change.value.active)  # noqa: PERF401 (it never ends)

    following = asyncio.create_task(follow())
    await bucket.create("t", _rollout(1))
    await until(lambda: seen == [1])

    broker.kill()
    await broker.stop()
    await broker.start()
    other = await connection.connect(broker.url, name="other")
    await _bucket(other).put("t", _rollout(2))

    await until(lambda: seen == [1, 2])
    following.cancel()
    await other.close()


async def test_a_mirror_settles_to_what_was_written_before(bus: connection.Connection) -> None:
    """After `settle` memory holds everything that anybody wrote before the call."""
    mirror = Mirror(bus, topology.ROLLOUTS, codec.ROLLOUT)
    await mirror.start()
    bucket = _bucket(bus)
    for number in range(200):
        await bucket.put(f"t{number}", _rollout(number))
        await mirror.settle()
        assert mirror.entries[f"t{number}"].value.active == number
    await bucket.delete("t7")
    await mirror.settle()
    assert "t7" not in mirror.entries
    await mirror.stop()


async def test_an_absent_broker_is_named(broker: Broker, bus: connection.Connection) -> None:
    """Every operation ends in StoreUnavailable within its time; none hangs."""
    bucket = _bucket(bus)
    await broker.stop()
    bus.jetstream._timeout = 0.2
    for operation in (bucket.get("t"), bucket.put("t", _rollout(1)), bucket.last_revision()):
        with pytest.raises(store.StoreUnavailable, match="rollouts"):
            await operation
