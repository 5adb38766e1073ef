"""A running stack to measure: real processes, one program that does next to nothing."""

import asyncio
import contextlib
import datetime as dt
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import msgspec

from bench import processes
from loopai.catalog import catalog
from loopai.catalog.stores import filesystem
from loopai.embedded.broker import Sync
from loopai.embedded.stack import Options, Stack
from streams import codec, connection, ids, replay, subjects, topology
from streams.messages import TaskSpecification

CODE = "def run(input):\n    return input['a'] + 1\n"
INPUT = {"a": 1}
TASK = "bench"
EXECUTE = f"/api/v1/tasks/{TASK}/execute"
WARM_UP_CALLS: Final = 50
CREATE_AT_ONCE: Final = 16
DRAIN_S_MAX: Final = 30.0
POLL_S: Final = 0.02
REST_S: Final = 0.3
"""After which a stack that recorded nothing has nothing left to do."""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that runs, with TASK on it."""

    http: httpx.AsyncClient
    """On one warm connection."""
    url: str
    nats_url: str
    bus: connection.Connection
    data_dir: Path
    pids: tuple[int, ...]
    """The processes that it started, without those that they started."""


@contextlib.asynccontextmanager
async def running(sync: Sync) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a fresh stack with an active program, on one warm connection."""
    async with opened(sync) as product:
        yield product.http


@contextlib.asynccontextmanager
async def opened(
    sync: Sync,
    *,
    workers: int = 1,
    ingress: int = 1,
    grpc: str = "",
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Product]:
    """A fresh stack with an active program; *environment* has more settings for its processes."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="loopai-bench-"))
        options = Options(
            http="127.0.0.1:0",
            data_dir=Path(folder),
            nats_port=None,
            sync=sync,
            workers=workers,
            ingress=ingress,
            grpc=grpc,
            environment=dict(environment or {}),
        )
        before = processes.children()
        started = await stack.enter_async_context(Stack(options, lambda *_: None))
        pids = tuple(sorted(processes.children() - before))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=started.url, timeout=60))
        task = {"name": TASK, "input_schema": {"type": "object"}}
        (await http.post("/api/v1/tasks", json=task)).raise_for_status()
        program = {"code": CODE, "activate": True}
        answer = await http.post(f"/api/v1/tasks/{TASK}/artifacts", json=program)
        answer.raise_for_status()
        for _ in range(WARM_UP_CALLS):
            (await http.post(EXECUTE, json={"input": INPUT})).raise_for_status()
        bus = await connection.connect(started.nats_url, name="loopai-bench")
        stack.push_async_callback(bus.close)
        yield Product(
            http=http,
            url=started.url,
            nats_url=started.nats_url,
            bus=bus,
            data_dir=Path(folder),
            pids=pids,
        )


async def create_tasks(product: Product, names: Sequence[str], *, tenant: str = "default") -> None:
    """Put a task of each name where it belongs, each with an active program of its own.

    Past the API, because an upload tries its program in a cell, and a thousand would take minutes.
    """
    texts = filesystem.FilesystemStore(product.data_dir / "artifacts")
    async with catalog.Catalog(product.bus, texts).opened() as known:
        gate = asyncio.Semaphore(CREATE_AT_ONCE)

        async def create(name: str) -> None:
            async with gate:
                await _create(known, tenant, name)

        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(create(name))


async def messages(product: Product) -> int:
    """How many messages with executions the broker has stored so far."""
    state = (await product.bus.jetstream.stream_info(topology.EXECUTE.name)).state
    return int(state.last_seq)


async def drained(product: Product) -> None:
    """Return when no execution is on its way, or waits in the interactive lane."""
    name, subject = topology.EXECUTE.name, subjects.queued_lane("interactive")
    async with asyncio.timeout(DRAIN_S_MAX):
        while True:
            found = await product.bus.jetstream.stream_info(name, subjects_filter=subject)
            if not found.state.subjects:
                return
            await asyncio.sleep(POLL_S)


async def settled(product: Product) -> None:
    """Return when nothing waits in any lane, and nothing more is recorded."""
    last, since = -1, time.monotonic()
    async with asyncio.timeout(DRAIN_S_MAX):
        while time.monotonic() - since < REST_S or await waiting(product):
            recorded = (await product.bus.jetstream.stream_info(topology.RECORDS.name)).state
            if recorded.last_seq != last:
                last, since = recorded.last_seq, time.monotonic()
            await asyncio.sleep(POLL_S)


async def purge(product: Product) -> None:
    """Throw away what waits; what is run just now is run to its end."""
    await product.bus.jetstream.purge_stream(topology.EXECUTE.name)


async def waiting(product: Product) -> int:
    """Messages with executions, of all lanes, that are not acknowledged."""
    state = (await product.bus.jetstream.stream_info(topology.EXECUTE.name)).state
    return int(state.messages)


async def recorded(bus: connection.Connection) -> int:
    """Executions in RECORDS."""
    count = 0
    async for stored in replay.read(bus, topology.RECORDS.name, subjects.RECORD_ALL):
        count += len(codec.RECORDS.decode(stored.payload).records)
    return count


async def _create(known: catalog.Catalog, tenant: str, name: str) -> None:
    now = dt.datetime.now(dt.UTC)
    task = TaskSpecification(
        id=ids.new(),
        tenant=tenant,
        name=name,
        input_schema=msgspec.Raw(b'{"type":"object"}'),
        created_at=now,
        updated_at=now,
    )
    task = await known.create_task(task)
    made = catalog.new_artifact(task.id, language="python", created_by="bench", now=now)
    made = msgspec.structs.replace(made, status="validated")
    # A comment makes it a program of its own: cells are shared by what has the same text.
    stored = await known.create_artifact(made, f"# {name}\n{CODE}")
    await known.activate(stored, by="bench", now=now)
