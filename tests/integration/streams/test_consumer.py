"""Deliveries of a real work queue: bounded, redelivered, given back, followed through restarts."""

import asyncio
import threading
import time

import msgspec
import pytest

from loopai.embedded.broker import Broker
from streams import connection, consumer, provision, publisher, pull, topology
from tests.wait import until

QUICK = msgspec.structs.replace(topology.GENERATOR, ack_wait_s=1.0)


async def _publish(bus: connection.Connection, *payloads: bytes) -> None:
    for payload in payloads:
        await publisher.publish(
            bus, "loopai.v1.generate.default.t", payload, message_id=payload.decode()
        )


async def _backlog(bus: connection.Connection) -> int:
    messages: int = (await bus.jetstream.stream_info("GENERATE")).state.messages
    return messages


@pytest.fixture
async def quick(bus: connection.Connection) -> connection.Connection:
    """A bus whose generator consumer redelivers after a second."""
    current = topology.topology()
    consumers = tuple(QUICK if c.durable == "generator" else c for c in current.consumers)
    await provision.apply(bus, msgspec.structs.replace(current, consumers=consumers))
    return bus


async def test_messages_come_in_order_and_leave_when_acknowledged(
    bus: connection.Connection,
) -> None:
    """A work queue keeps a message until it is acknowledged, and not after."""
    await _publish(bus, b"1", b"2", b"3")

    async with consumer.Consumer(bus, topology.GENERATOR, slots=2) as taken:
        deliveries = aiter(taken)
        for expected in (b"1", b"2", b"3"):
            delivery = await anext(deliveries)
            assert (delivery.payload, delivery.attempt, delivery.leased) == (expected, 1, True)
            await delivery.ack()
            taken.release()
        await bus.client.flush()
        await until(lambda: _empty(bus))


async def _empty(bus: connection.Connection) -> bool:
    return await _backlog(bus) == 0


async def test_no_more_than_the_slots_are_in_hand(bus: connection.Connection) -> None:
    """Without a release the broker is asked for nothing more."""
    await _publish(bus, *(b"%d" % n for n in range(10)))

    async with consumer.Consumer(bus, topology.GENERATOR, slots=3) as taken:
        deliveries = aiter(taken)
        held = [await anext(deliveries) for _ in range(3)]
        info = await bus.jetstream.consumer_info("GENERATE", "generator")
        assert info.num_ack_pending == 3

        await held[0].ack()
        taken.release()
        assert (await anext(deliveries)).payload == b"3"


async def test_an_unacknowledged_message_comes_again(quick: connection.Connection) -> None:
    """After the ack wait the lease is lost and another delivery says that it is the second."""
    await _publish(quick, b"1")

    async with consumer.Consumer(quick, QUICK, slots=2) as taken:
        deliveries = aiter(taken)
        first = await anext(deliveries)
        second = await anext(deliveries)

        assert (second.payload, second.attempt) == (b"1", 2)
        # Its own clock began when it came here, the broker's when it was sent.
        await until(lambda: not first.leased)
        assert second.leased
        await second.ack()


async def test_progress_keeps_a_message(quick: connection.Connection) -> None:
    """Long work that says so is not given to somebody else."""
    await _publish(quick, b"1", b"2")

    async with consumer.Consumer(quick, QUICK, slots=3) as taken:
        deliveries = aiter(taken)
        kept, left = await anext(deliveries), await anext(deliveries)

        async def go_on() -> None:
            while True:
                await kept.progress()
                await asyncio.sleep(0.2)

        working = asyncio.create_task(go_on())
        again = await anext(deliveries)
        working.cancel()

        assert again.payload == left.payload
        assert kept.leased
        await until(lambda: not left.leased)


async def test_whoever_lost_a_message_cannot_take_it_from_its_next_owner(
    quick: connection.Connection,
) -> None:
    """Given back or terminated too late, it stays with the worker that has it now."""
    await _publish(quick, b"1")

    async with consumer.Consumer(quick, QUICK, slots=3) as taken:
        deliveries = aiter(taken)
        late, owned = await anext(deliveries), await anext(deliveries)
        await until(lambda: not late.leased)
        await late.nak(0)
        await late.term("too late")
        await _publish(quick, b"2")

        assert (await anext(deliveries)).payload == b"2"
        assert await _backlog(quick) == 2
        assert owned.leased


async def test_progress_that_cannot_reach_the_broker_keeps_nothing(
    broker: Broker, quick: connection.Connection
) -> None:
    """A worker cut off from the broker loses its lease: nobody heard that it is alive."""
    await _publish(quick, b"1")

    async with consumer.Consumer(quick, QUICK, slots=1) as taken:
        delivery = await anext(aiter(taken))
        await broker.stop()
        await until(lambda: not quick.client.is_connected)

        async def lost() -> bool:
            await delivery.progress()
            return not delivery.leased

        await until(lost, within_s=5)
        await broker.start()


async def test_what_is_in_hand_stays_ours_when_pulling_ends(
    bus: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that drains pulls no more, and that must not pass for being asleep."""
    monkeypatch.setattr(pull, "ASLEEP_S", 0.2)
    await _publish(bus, b"1")
    async with consumer.Consumer(bus, topology.GENERATOR, slots=1) as taken:
        delivery = await anext(aiter(taken))
    ended = time.monotonic()

    await until(lambda: time.monotonic() - ended > 0.5)

    assert delivery.leased


async def test_a_header_that_the_client_cannot_parse_stops_nobody(
    broker: Broker, bus: connection.Connection
) -> None:
    """nats-py's read loop ends for good on a header block that is shorter than it expects."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"HPUB loopai.v1.generate.default.t 8 9\r\nNATS/1.01\r\nPING\r\n")
    assert await reader.readline() == b"PONG\r\n"
    writer.close()
    await writer.wait_closed()
    await _publish(bus, b"2")

    async with asyncio.timeout(5), consumer.Consumer(bus, topology.GENERATOR, slots=2) as taken:
        deliveries = aiter(taken)
        assert [(await anext(deliveries)).payload for _ in range(2)] == [b"1", b"2"]


async def test_a_nak_gives_it_back_after_its_delay(bus: connection.Connection) -> None:
    """A worker that cannot now says when; BackOff does not apply."""
    await _publish(bus, b"1")

    async with consumer.Consumer(bus, topology.GENERATOR, slots=1) as taken:
        deliveries = aiter(taken)
        loop = asyncio.get_running_loop()
        await (await anext(deliveries)).nak(0.3)
        given_back = loop.time()
        taken.release()
        again = await anext(deliveries)

        assert again.attempt == 2
        assert loop.time() - given_back > 0.25


async def test_a_terminated_message_never_comes_again(bus: connection.Connection) -> None:
    """Terminating removes it from the queue; a reason of any text is safe."""
    await _publish(bus, b"1")

    async with consumer.Consumer(bus, topology.GENERATOR, slots=1) as taken:
        await (await anext(aiter(taken))).term("line\r\nPUB evil 0\r\n\r\n" * 50)
        await bus.client.flush()
        await until(lambda: _empty(bus))


async def test_what_was_fetched_and_not_begun_goes_back_at_once(
    bus: connection.Connection,
) -> None:
    """A worker that stops does not make its successor wait for the ack wait."""
    await _publish(bus, b"1", b"2", b"3")
    async with consumer.Consumer(bus, topology.GENERATOR, slots=3) as taken:
        first = await anext(aiter(taken))
        await until(lambda: _pending(bus, 3))
        await first.ack()

    async with asyncio.timeout(8), consumer.Consumer(bus, topology.GENERATOR, slots=3) as taken:
        deliveries = aiter(taken)
        assert {(await anext(deliveries)).payload for _ in range(2)} == {b"2", b"3"}


async def _pending(bus: connection.Connection, number: int) -> bool:
    info = await bus.jetstream.consumer_info("GENERATE", "generator")
    return bool(info.num_ack_pending == number)


async def test_a_restarted_broker_goes_on_delivering(
    broker: Broker, bus: connection.Connection
) -> None:
    """The pull loop asks afresh after a reconnect: no restart of the worker is needed."""
    async with consumer.Consumer(bus, topology.GENERATOR, slots=4) as taken:
        deliveries = aiter(taken)
        await _publish(bus, b"1")
        await (await anext(deliveries)).ack()
        taken.release()
        broker.kill()
        await broker.stop()
        await broker.start()
        await _publish(bus, b"2")

        async with asyncio.timeout(10):
            while (delivery := await anext(deliveries)).payload != b"2":
                taken.release()  # the acknowledgement of the first may have died with the broker
        assert delivery.payload == b"2"


async def test_a_consumer_made_anew_is_found_again(bus: connection.Connection) -> None:
    """Whoever deletes a consumer and applies the topology again need not restart any worker."""
    async with consumer.Consumer(bus, topology.GENERATOR, slots=1) as taken:
        deliveries = aiter(taken)
        await _publish(bus, b"1")
        await (await anext(deliveries)).ack()
        taken.release()
        await until(lambda: _waiting(bus))
        await bus.jetstream.delete_consumer("GENERATE", "generator")
        await provision.apply(bus, topology.topology())
        await _publish(bus, b"2")

        async with asyncio.timeout(5):
            assert (await anext(deliveries)).payload == b"2"


async def _waiting(bus: connection.Connection) -> bool:
    info = await bus.jetstream.consumer_info("GENERATE", "generator")
    return bool(info.num_waiting)


async def test_a_silent_broker_is_asked_again(
    bus: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When heartbeats stay away although the connection stands, the request counts as lost."""
    monkeypatch.setattr(pull, "SILENCE_S", 0.0)
    monkeypatch.setattr(pull, "HEARTBEAT_S", 0.1)
    async with consumer.Consumer(bus, topology.GENERATOR, slots=1) as taken:
        await until(lambda: _waiting(bus))
        inbox = taken._pull._inbox
        await until(lambda: taken._pull._inbox != inbox)
        await _publish(bus, b"1")

        async with asyncio.timeout(5):
            assert (await anext(aiter(taken))).payload == b"1"


async def test_what_came_while_asleep_is_dropped(
    quick: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process finds old deliveries in its socket: by now others have them."""
    monkeypatch.setattr(pull, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(pull, "ASLEEP_S", 0.5)
    url = quick.client.connected_url.geturl()

    async def publish() -> None:
        other = await connection.connect(url, name="other")
        await _publish(other, b"during")
        await other.close()

    await _publish(quick, b"before")
    async with consumer.Consumer(quick, QUICK, slots=3) as taken:
        deliveries = aiter(taken)
        held = await anext(deliveries)
        await until(lambda: _waiting(quick))
        publishing = threading.Thread(target=lambda: asyncio.run(publish()))
        publishing.start()
        time.sleep(1.5)  # noqa: ASYNC251 (the loop stands still: that is the test)
        publishing.join()

        await held.progress()
        assert not held.leased
        again = [await anext(deliveries) for _ in range(2)]
        assert {d.payload for d in again} == {b"before", b"during"}
        assert min(d.attempt for d in again) == 2
        assert all(d.leased for d in again)


async def test_one_of_several_brokers_is_enough(bus: connection.Connection) -> None:
    """A list of URLs connects while one of them answers."""
    url = bus.client.connected_url.geturl()
    other = await connection.connect(f"nats://127.0.0.1:1, {url}", name="other")
    assert other.client.connected_url.geturl() == url
    await other.close()
