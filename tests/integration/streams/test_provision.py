"""The topology on a real broker: made, compared, changed, left alone."""

import asyncio
import os
import sys

import msgspec
import nats.js.api
import pytest

from loopai.embedded.broker import Broker, find_server
from streams import connection, provision, subjects, topology


async def test_applying_twice_changes_nothing(broker: Broker) -> None:
    """The first apply makes everything, the second finds nothing to do."""
    connected = await connection.connect(broker.url, name="test")
    wanted = topology.topology()

    made = await provision.apply(connected, wanted)

    assert len(made) == len(wanted.streams) + len(wanted.consumers) + len(wanted.buckets)
    assert {change.action for change in made} == {"create"}
    assert await provision.apply(connected, wanted) == []
    assert await provision.missing(connected, wanted) == []
    await connected.close()


async def test_a_changed_limit_is_shown_and_applied(bus: connection.Connection) -> None:
    """A diff names the field with what is and what should be; apply makes it so."""
    wanted = topology.topology(execute_backlog_max=7)

    (change,) = await provision.diff(bus, wanted)
    assert (change.kind, change.name, change.action) == ("stream", "EXECUTE", "update")
    assert change.fields == {"max_msgs_per_subject": (10_000, 7)}

    await provision.apply(bus, wanted)
    assert await provision.diff(bus, wanted) == []


async def test_records_of_a_release_without_shadows_stay(bus: connection.Connection) -> None:
    """The stream of the audit log gets the subject of shadow runs, and keeps what it holds."""
    current = topology.topology()
    streams = tuple(
        msgspec.structs.replace(each, subjects=(subjects.RECORD_ALL,))
        if each.name == topology.RECORDS.name
        else each
        for each in current.streams
    )
    await provision.apply(bus, msgspec.structs.replace(current, streams=streams))
    await bus.jetstream.publish(subjects.record("default", "upper"), b"old")

    (change,) = await provision.apply(bus, current)

    assert (change.name, change.action, set(change.fields)) == ("RECORDS", "update", {"subjects"})
    await bus.jetstream.publish(subjects.shadow("default", "upper"), b"new")
    assert (await bus.jetstream.stream_info("RECORDS")).state.messages == 2


async def test_a_changed_consumer_is_applied(bus: connection.Connection) -> None:
    """Consumers follow the topology too."""
    current = topology.topology()
    longer = msgspec.structs.replace(current.consumers[0], ack_wait_s=25.0)
    wanted = msgspec.structs.replace(current, consumers=(longer, *current.consumers[1:]))

    (change,) = await provision.apply(bus, wanted)

    assert change.fields == {"ack_wait": (10.0, 25.0)}
    assert await provision.diff(bus, wanted) == []


async def test_what_cannot_be_changed_in_place_is_refused(broker: Broker) -> None:
    """A stream of another retention is not silently kept, nor is its data thrown away."""
    connected = await connection.connect(broker.url, name="test")
    await connected.jetstream.add_stream(
        nats.js.api.StreamConfig(name="EXECUTE", subjects=["loopai.v1.execute.>"])
    )

    with pytest.raises(topology.TopologyError, match="EXECUTE: retention cannot be changed"):
        await provision.apply(connected, topology.topology())
    await connected.close()


async def _streams(*arguments: str, url: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", *arguments,
        env={**os.environ, "LOOPAI_NATS_URL": url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_line_shows_diffs_and_applies(broker: Broker) -> None:
    """`python -m streams` does by hand what a deployment does by itself."""
    status, shown, _ = await _streams("show", url=broker.url)
    assert status == 0
    assert {s["name"] for s in msgspec.json.decode(shown)["streams"]} >= {"EXECUTE", "RECORDS"}

    status, before, _ = await _streams("diff", url=broker.url)
    assert (status, "create stream EXECUTE" in before) == (0, True)

    status, done, _ = await _streams("apply", url=broker.url)
    assert (status, done) == (0, before)

    status, after, _ = await _streams("diff", url=broker.url)
    assert (status, after) == (0, "the broker matches the topology\n")


async def test_a_broker_with_too_small_messages_is_refused(tmp_path, unused_tcp_port: int) -> None:
    """A broker left at its default of 1 MiB would refuse records later: say so at once."""
    process = await asyncio.create_subprocess_exec(
        find_server(), "-js", "-sd", str(tmp_path), "-a", "127.0.0.1", "-p", str(unused_tcp_port),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with pytest.raises(connection.BrokerUnavailable, match="max_payload"):
            await connection.connect(f"nats://127.0.0.1:{unused_tcp_port}", name="test")
    finally:
        process.terminate()
        await process.wait()
