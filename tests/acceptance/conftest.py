"""The whole product as its users run it: one process each, a broker that fsyncs."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from loopai.catalog.mirror import Mirror
from loopai.embedded.stack import Options, Stack
from streams import codec, connection, replay, topology
from streams.messages import ExecutionRecord, WorkerPresence
from tests.wait import until

UPPER = "def run(input):\n    return input.upper()\n"


class Product:
    """A running stack, spoken to over HTTP and looked at over the bus."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient, bus: connection.Connection) -> None:
        self.stack = stack
        self.http = http
        self.bus = bus
        self.workers = Mirror(bus, topology.WORKERS, codec.WORKER)

    async def create(self, name: str = "upper", code: str = UPPER) -> None:
        text = {"type": "string"}
        task = {"name": name, "input_schema": text, "output_schema": text}
        (await self.http.post("/api/v1/tasks", json=task)).raise_for_status()
        program = {"language": "python", "code": code, "activate": True}
        answer = await self.http.post(f"/api/v1/tasks/{name}/artifacts", json=program)
        answer.raise_for_status()

    async def execute(self, value: str, task: str = "upper") -> httpx.Response:
        return await self.http.post(f"/api/v1/tasks/{task}/execute", json={"input": value})

    async def execute_all(self, values: list[str], at_once: int) -> list[httpx.Response]:
        """Answers in the order of *values*, with at most *at_once* requests open."""
        gate = asyncio.Semaphore(at_once)

        async def one(value: str) -> httpx.Response:
            async with gate:
                return await self.execute(value)

        return await asyncio.gather(*(one(value) for value in values))

    async def records(self, task: str = "upper") -> list[ExecutionRecord]:
        return [r async for r in replay.records(self.bus, tenant="default", task=task)]

    def alive(self, pool: str) -> list[WorkerPresence]:
        entries = self.workers.entries.values()
        return [entry.value for entry in entries if entry.value.pool == pool]

    def kill(self, pool: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send *number* to the one worker of *pool*, as a machine that dies would; its pid."""
        pid = max(self.alive(pool), key=lambda worker: worker.started_at).pid
        os.kill(pid, number)
        return pid


def child(word: str) -> int:
    """The process of ours whose command line holds *word*."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended while we looked
            parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
            if int(parent) == os.getpid() and word in (folder / "cmdline").read_text():
                return int(folder.name)
    raise AssertionError(f"no child runs {word}")


async def run(*module: str, **environment: str) -> tuple[int | None, str]:
    """Exit code and stderr of `python -m` *module*, once it has ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(40):
        _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.fixture
def executors() -> int:
    """How many executors the product has; a test that needs more parametrizes it."""
    return 1


@pytest.fixture
def ingresses() -> int:
    """How many processes serve HTTP; the same."""
    return 1


@pytest.fixture
async def product(tmp_path: Path, executors: int, ingresses: int) -> AsyncIterator[Product]:
    said: list[str] = []
    options = Options(
        http="127.0.0.1:0",
        data_dir=tmp_path / "data",
        nats_port=None,
        workers=executors,
        ingress=ingresses,
    )
    async with Stack(options, lambda name, line: said.append(f"{name} | {line}")) as stack:
        watching = asyncio.create_task(stack.watch())
        async with httpx.AsyncClient(
            base_url=stack.url, timeout=60, limits=httpx.Limits(max_connections=200)
        ) as http:
            bus = await connection.connect(stack.nats_url, name="test")
            running = Product(stack, http, bus)
            await running.workers.start()
            await until(lambda: len(running.alive("executor")) == executors)
            yield running
            await running.workers.stop()
            await bus.close()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
