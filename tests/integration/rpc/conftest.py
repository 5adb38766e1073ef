"""One product for each module here, with the API over gRPC beside HTTP."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from loopai.embedded.broker import Broker
from loopai.ingress.rpc.server import Server
from streams import connection, provision, topology
from tests.integration.rpc.caller import Caller
from tests.system import System

SLOW = "def run(input):\n    while True:\n        pass\n"
PICKY = "def run(input):\n    if input == 'bad':\n        raise ValueError(input)\n    return input"
DRAIN_S = 2.0


class Stage:
    """The product, `http` for requests, and callers that are closed in the end."""

    def __init__(self, system: System, stack: contextlib.AsyncExitStack) -> None:
        self.system = system
        self.server: Server
        self.port = 0
        self._stack = stack

    async def caller(self, credentials: dict[str, str] | None = None) -> Caller:
        made = Caller(self.port, credentials)
        self._stack.push_async_callback(made.close)
        return made


@contextlib.asynccontextmanager
async def staged(tmp_path: Any, **fields: Any) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(tmp_path / "nats", sync="default"))
        stack.callback(broker.kill)
        bus = await connection.connect(broker.url, name="test")
        stack.push_async_callback(bus.close)
        await provision.apply(bus, topology.topology())
        system = await System.started(stack, broker, bus, tmp_path / "data", **fields)
        stage = Stage(system, stack)
        stage.server = Server(system.services, system.app)
        stage.port = await stage.server.start("127.0.0.1", 0)
        stack.push_async_callback(stage.server.stop, DRAIN_S)
        yield stage


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """With the tasks `upper`, `picky` (fails on "bad"), `slow` (never ends) and `empty`."""
    async with staged(
        tmp_path_factory.mktemp("rpc"), body_bytes_max=300_000, run_ms_max=1_000
    ) as made:
        await made.system.create()
        await made.system.create("picky", PICKY)
        await made.system.create("slow", SLOW)
        empty = {"name": "empty", "input_schema": {}, "output_schema": {}}
        (await made.system.http.post("/api/v1/tasks", json=empty)).raise_for_status()
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def caller(stage: Stage) -> Caller:
    return await stage.caller()
