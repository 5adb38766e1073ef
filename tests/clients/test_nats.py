"""The Python client without HTTP: published durably, and answered on the bus."""

import uuid
from collections.abc import AsyncIterator

import pytest
from loopai_client import errors
from loopai_client.nats import NatsClient

from streams import topology
from tests.system import System
from workers import executor


@pytest.fixture
async def client(system: System) -> AsyncIterator[NatsClient]:
    async with await NatsClient.connect(system.broker.url) as connected:
        yield connected


async def test_an_execution_is_published_and_answered(system: System, client: NatsClient) -> None:
    """Durable, and awaited: the answer is that of the HTTP API, which knows the id as well."""
    await system.create("mail.upper")
    done = await client.execute("mail.upper", "a", timeout_ms=10_000, routing_key="me")
    assert (done.status, done.output, done.version) == ("success", "A", 1)
    found = await system.http.get(f"/api/v1/executions/{done.id}")
    assert found.json()["output"] == "A"
    rejected = await client.execute("mail.upper", 7)
    with pytest.raises(errors.ExecutionFailed, match="rejected"):
        rejected.raise_for_error()
    batched = await client.execute("mail.upper", "b", lane="bulk")
    assert batched.output == "B"


async def test_what_is_published_waits_for_a_worker(system: System, client: NatsClient) -> None:
    """Nobody needs to be there: the id finds the record afterwards."""
    await system.create()
    await system.stop_pool(executor)
    execution_id = await client.publish("upper", "a")
    assert uuid.UUID(execution_id).version == 7
    await system.start_pool(executor)
    found = await system.http.get(f"/api/v1/executions/{execution_id}?wait=20")
    assert found.json()["output"] == "A"


async def test_a_full_queue_is_told(system: System, client: NatsClient) -> None:
    """What finds no room was not stored, and says so as the HTTP API does."""
    await system.create()
    await system.stop_pool(executor)
    jetstream = system.bus.jetstream
    info = await jetstream.stream_info(topology.EXECUTE.name)
    config = info.config.evolve(max_msgs_per_subject=2)
    await jetstream.update_stream(config)
    for _ in range(2):
        await client.publish("upper", "a")
    with pytest.raises(errors.UnavailableError) as full:
        await client.publish("upper", "a")
    assert full.value.code == "BACKLOG_FULL"


async def test_a_name_that_is_no_token_is_refused(client: NatsClient) -> None:
    """A wildcard would publish who knows where."""
    for name in ("", "a b", "a.*", ">"):
        with pytest.raises(ValueError, match="is no name"):
            await client.publish(name, "a")


async def test_without_a_gateway_a_call_says_so(client: NatsClient) -> None:
    """Nobody there is told at once, not after the timeout."""
    with pytest.raises(errors.ConnectionFailed, match="no gateway"):
        await client.call("upper", "a")
