"""Group commit on a real stream: nothing lost, nothing twice, nothing waiting without need."""

import asyncio
import time

import msgspec
import pytest

from streams import codec, connection, ids, provision, publisher, replay, subjects, topology
from streams.messages import ExecuteItem, Lane


def _item(size: int = 10) -> ExecuteItem:
    return ExecuteItem(
        id=ids.new(), input=b'"%s"' % (b"x" * size), deadline_ms=int(time.time() * 1000) + 60_000
    )


async def _submit(
    commit: publisher.GroupCommit, item: ExecuteItem, task: str = "t", lane: Lane = "interactive"
) -> None:
    confirmation = publisher.Confirmation()
    commit.submit((item,), confirmation, lane=lane, tenant="default", task=task, task_id="id")
    await confirmation.future


async def _batches(bus: connection.Connection) -> list[replay.Stored]:
    return [m async for m in replay.read(bus, "EXECUTE", "loopai.v1.execute.>")]


async def test_a_lone_request_leaves_at_once_and_alone(bus: connection.Connection) -> None:
    """When idle there is nobody to wait for."""
    commit = publisher.GroupCommit(bus, reply_to="loopai.v1.reply.me")
    item = _item()

    await _submit(commit, item)

    (stored,) = await _batches(bus)
    batch = codec.EXECUTE.decode(stored.payload)
    assert batch.items == (item,)
    assert (batch.task_id, batch.validated) == ("id", True)
    assert stored.headers["Loopai-Reply-To"] == "loopai.v1.reply.me"
    group, place = subjects.queue("default", "t")
    assert stored.subject == f"loopai.v1.execute.interactive.{group}.{place}.default.t"


async def test_requests_that_come_together_travel_together(bus: connection.Connection) -> None:
    """A thousand at once need a few messages, in order, each item exactly once."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    items = [_item() for _ in range(1000)]

    await asyncio.gather(*(_submit(commit, item) for item in items))

    batches = [codec.EXECUTE.decode(m.payload) for m in await _batches(bus)]
    assert [i.id for b in batches for i in b.items] == [i.id for i in items]
    assert len(batches) < 15
    assert max(len(b.items) for b in batches) == topology.ITEMS_MAX
    assert (commit.batches, commit.items) == (len(batches), 1000)


async def test_requests_of_one_turn_of_the_loop_share_a_message(bus: connection.Connection) -> None:
    """Also when nothing is in flight: sent one by one, the first would leave alone."""
    commit = publisher.GroupCommit(bus, reply_to="r")

    await asyncio.gather(*(_submit(commit, _item()) for _ in range(64)))

    assert [len(codec.EXECUTE.decode(m.payload).items) for m in await _batches(bus)] == [64]


async def test_items_submitted_together_are_not_parted(bus: connection.Connection) -> None:
    """One word of the broker tells about all of them."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    groups = [[_item() for _ in range(100)] for _ in range(5)]
    confirmations = [publisher.Confirmation() for _ in groups]

    for items, each in zip(groups, confirmations, strict=True):
        commit.submit(items, each, lane="bulk", tenant="default", task="t", task_id="id")
    await asyncio.gather(*(each.future for each in confirmations))

    batches = [codec.EXECUTE.decode(m.payload).items for m in await _batches(bus)]
    assert [len(items) for items in batches] == [200, 200, 100]


async def test_full_messages_wait_for_nobody(bus: connection.Connection) -> None:
    """However many are unanswered: nobody could join them. What has room lingers as ever."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    large = topology.BATCH_BYTES_MAX // 4
    groups = [[_item() for _ in range(topology.ITEMS_MAX)] for _ in range(5)]
    groups += [[_item(large) for _ in range(3)] for _ in range(5)]
    groups.append([_item()])
    for items in groups:
        commit.submit(
            items, publisher.Confirmation(), lane="bulk", tenant="d", task="t", task_id="id"
        )
    await asyncio.sleep(0)

    assert len(commit._in_flight) == 10
    assert [batch.count for batch in commit._gathering.values()] == [1]
    await commit.close()


async def test_batches_stay_below_their_byte_limit(bus: connection.Connection) -> None:
    """Large inputs make small batches; one above the limit goes alone."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    sizes = [100_000] * 20 + [topology.BATCH_BYTES_MAX + 1] + [10] * 20

    await asyncio.gather(*(_submit(commit, _item(size)) for size in sizes))

    batches = [codec.EXECUTE.decode(m.payload).items for m in await _batches(bus)]
    assert sum(len(items) for items in batches) == len(sizes)
    for items in batches:
        weight = sum(len(item.input) for item in items)
        assert weight <= topology.BATCH_BYTES_MAX or len(items) == 1


async def test_tasks_and_lanes_never_share_a_message(bus: connection.Connection) -> None:
    """What is mixed at the door stays apart on the bus."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    lanes: tuple[Lane, Lane] = ("interactive", "bulk")

    await asyncio.gather(*(_submit(commit, _item(), f"t{n % 5}", lanes[n % 2]) for n in range(200)))

    counts: dict[str, int] = {}
    for message in await _batches(bus):
        size = len(codec.EXECUTE.decode(message.payload).items)
        counts[message.subject] = counts.get(message.subject, 0) + size
    assert set(counts.values()) == {20}
    assert len(counts) == 10


async def test_a_quiet_task_is_not_stuck_behind_a_busy_one(bus: connection.Connection) -> None:
    """The window is shared round-robin: one item is not behind twenty thousand of another task."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    busy = [asyncio.create_task(_submit(commit, _item(), "busy")) for _ in range(20_000)]
    await asyncio.sleep(0)

    await _submit(commit, _item(), "quiet")

    assert not all(task.done() for task in busy)
    await asyncio.gather(*busy)


async def test_a_full_backlog_refuses_and_loses_nothing(bus: connection.Connection) -> None:
    """Above the cap of its subject a batch is refused; other tasks and what is stored go on."""
    await provision.apply(bus, topology.topology(execute_backlog_max=2))
    commit = publisher.GroupCommit(bus, reply_to="r")
    for _ in range(2):
        await _submit(commit, _item())

    with pytest.raises(publisher.BacklogFull):
        await _submit(commit, _item())

    await _submit(commit, _item(), "other")
    assert len(await _batches(bus)) == 3


async def test_what_waits_in_the_process_is_bounded(bus: connection.Connection) -> None:
    """Callers who come faster than the bus takes are refused; all others are stored."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    size = topology.MIB // 2
    number = publisher.PENDING_BYTES_MAX // size + 20

    results = await asyncio.gather(
        *(_submit(commit, _item(size)) for _ in range(number)), return_exceptions=True
    )

    refused = [r for r in results if isinstance(r, publisher.BacklogFull)]
    assert [r for r in results if r is not None] == refused
    assert 0 < len(refused) <= 20
    assert len(await _batches(bus)) == number - len(refused)


async def test_publishing_twice_stores_once(bus: connection.Connection) -> None:
    """A repeated message id is acknowledged and not stored again."""
    for _ in range(2):
        await publisher.publish(bus, "loopai.v1.record.default.t", b"x", message_id="one")

    stored = [m async for m in replay.read(bus, "RECORDS", "loopai.v1.record.>")]
    assert len(stored) == 1


async def test_a_subject_without_a_stream_is_an_error(bus: connection.Connection) -> None:
    """Nothing is ever published into the void."""
    with pytest.raises(publisher.NotPublished, match="no stream"):
        await publisher.publish(bus, "nobody.captures.this", b"x", message_id="one")


async def test_a_caller_who_leaves_does_not_stop_the_others(bus: connection.Connection) -> None:
    """Cancelling one request neither cancels its batch nor leaves anything behind."""
    commit = publisher.GroupCommit(bus, reply_to="r", window=1)
    tasks = [asyncio.create_task(_submit(commit, _item())) for _ in range(50)]
    await asyncio.sleep(0)
    tasks[10].cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)
    await commit.close()

    assert [type(r).__name__ for r in results if r is not None] == ["CancelledError"]
    assert sum(len(codec.EXECUTE.decode(m.payload).items) for m in await _batches(bus)) == 50


async def test_a_restarted_broker_gets_what_was_under_way(
    broker, bus: connection.Connection
) -> None:
    """A broker that is killed and comes back within the attempts costs a delay, nothing else."""
    commit = publisher.GroupCommit(bus, reply_to="r")
    await _submit(commit, _item())
    broker.kill()
    waiting = [asyncio.create_task(_submit(commit, _item())) for _ in range(20)]
    await broker.stop()
    await broker.start()

    await asyncio.gather(*waiting)

    stored = [codec.EXECUTE.decode(m.payload) for m in await _batches(bus)]
    ids_stored = [item.id for batch in stored for item in batch.items]
    assert len(ids_stored) == len(set(ids_stored)) == 21


def test_a_batch_of_the_largest_items_fits_into_a_message() -> None:
    """The bounds are related: what the publisher packs, the broker takes."""
    item = _item(topology.MIB)
    batch = msgspec.msgpack.encode(item)
    assert len(batch) < topology.MESSAGE_BYTES_MAX
