"""A real broker for each test that asks for one, and the whole system around it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopai.embedded.broker import Broker
from streams import connection, provision, topology
from tests.system import System


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """An empty nats-server of this test's own; writes are not fsynced, for speed."""
    async with Broker(tmp_path / "nats", sync="default") as started:
        yield started
        # Nobody wants its data: in good order it writes the state of every consumer first, 0.9 s.
        started.kill()


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[connection.Connection]:
    """A connection to a broker that has the topology."""
    connected = await connection.connect(broker.url, name="test")
    await provision.apply(connected, topology.topology())
    yield connected
    await connected.close()


@pytest.fixture
async def system(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """Ingress over HTTP, an executor, a generator and a recorder, in this process."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "data")
