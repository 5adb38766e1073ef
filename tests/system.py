"""The product around a test's broker: the real parts, wired as their processes wire them."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import httpx
import msgspec
from prometheus_client import CollectorRegistry

from loopai.catalog.catalog import new_artifact
from loopai.embedded.broker import Broker
from loopai.ingress import app, server
from loopai.settings import Settings
from streams import connection
from streams.messages import ArtifactStatus, Language, ProgramArtifact
from workers import executor, generator, recorder, runtime

UrlOf = Callable[[str], str]

UPPER = "def run(input):\n    return input.upper()\n"
TEXT = {"type": "string"}


class System:
    """Use `http` for requests and `bus` for the streams; `start_pool` and `stop_pool` as needed."""

    def __init__(
        self, broker: Broker, bus: connection.Connection, settings: Settings, url_of: UrlOf | None
    ) -> None:
        self.broker = broker
        self.url_of = url_of or (lambda _: broker.url)
        self.bus = bus
        self.settings = settings
        self.http: httpx.AsyncClient
        self.services: Any
        self.app: Any
        self.figures: dict[str, CollectorRegistry] = {}
        """What each pool has to show, by its instance."""
        self._pools: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    @classmethod
    async def started(
        cls,
        stack: contextlib.AsyncExitStack,
        broker: Broker,
        bus: connection.Connection,
        data_dir: Path,
        pools: tuple[ModuleType, ...] = (executor, generator, recorder),
        *,
        url_of: UrlOf | None = None,
        **fields: Any,
    ) -> Self:
        """*url_of* gives each role its own URL, where the broker asks who one is."""
        settings = Settings(nats_url=broker.url, data_dir=str(data_dir), **fields)
        system = cls(broker, bus, settings, url_of)
        own = await connection.connect(system.url_of("ingress"), name="ingress", role="ingress")
        stack.push_async_callback(own.close)
        system.services = await stack.enter_async_context(app.shared(settings, own))
        listener = socket.create_server(("127.0.0.1", 0))
        stack.callback(listener.close)
        running = server.server(system.services, drain_s=1)
        system.app = running.config.app
        serving = asyncio.create_task(running.serve(sockets=[listener]))

        async def stop_serving() -> None:
            running.should_exit = True
            await serving

        stack.push_async_callback(stop_serving)
        host, port = listener.getsockname()
        system.http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60)
        )
        stack.push_async_callback(system.stop_pools)
        for pool in pools:
            await system.start_pool(pool)
        return system

    @property
    def running(self) -> set[str]:
        """Instances of pools that have not ended."""
        return {name for name, (_, task) in self._pools.items() if not task.done()}

    async def start_pool(
        self, pool: ModuleType, instance: str | None = None, **fields: Any
    ) -> None:
        """Run *pool* in a task, on a connection of its own; *fields* are settings of its own."""
        name = instance or f"{pool.NAME}-test"
        stop, ready = asyncio.Event(), asyncio.Event()
        registry = self.figures[name] = CollectorRegistry()

        async def run() -> None:
            own = await connection.connect(self.url_of(pool.NAME), name=pool.NAME, role=pool.NAME)
            try:
                host = runtime.Host(
                    settings=msgspec.structs.replace(self.settings, **fields),
                    connection=own,
                    instance=name,
                    registry=registry,
                )
                async with pool.opened(host) as opened:
                    ready.set()
                    await runtime.serve(host, opened, stop)
            finally:
                await own.close()

        task = asyncio.create_task(run())
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        self._pools[name] = (stop, task)

    async def stop_pool(self, pool: ModuleType, instance: str | None = None) -> None:
        stop, task = self._pools.pop(instance or f"{pool.NAME}-test")
        stop.set()
        await task

    async def stop_pools(self) -> None:
        for stop, task in self._pools.values():
            stop.set()
            await task
        self._pools.clear()

    async def create(self, name: str = "upper", code: str = UPPER, **fields: Any) -> dict[str, Any]:
        """A task with an active program."""
        body = {"name": name, "input_schema": TEXT, "output_schema": TEXT, **fields}
        task = (await self.http.post("/api/v1/tasks", json=body)).raise_for_status().json()
        await self.store(task["id"], code)
        decoded: dict[str, Any] = msgspec.convert(task, dict[str, Any])
        return decoded

    async def store(
        self,
        task_id: str,
        code: str,
        language: Language = "python",
        *,
        activate: bool = True,
        status: ArtifactStatus = "validated",
    ) -> ProgramArtifact:
        """A version as an upload leaves it, whether or not a worker is there to check it."""
        now = datetime.now(UTC)
        new = new_artifact(task_id, language=language, created_by="test", now=now)
        artifact: ProgramArtifact = await self.services.catalog.create_artifact(
            msgspec.structs.replace(new, status=status), code
        )
        if activate:
            await self.services.catalog.activate(artifact, by="test", now=now)
        return artifact

    async def execute(self, value: object, task: str = "upper", **fields: Any) -> httpx.Response:
        return await self.http.post(
            f"/api/v1/tasks/{task}/execute", json={"input": value, **fields}
        )
