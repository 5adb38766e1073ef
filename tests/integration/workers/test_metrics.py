"""Workers as processes, scraped over HTTP as Prometheus does."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loopai.embedded.broker import Broker
from loopai.sandbox import limits, pool, program
from streams import connection
from tests.system import System
from tests.wait import until
from workers import metrics
from workers.__main__ import POOLS

WAIT_S = 60.0

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Figures:
    """Values by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Worker:
    """A running `python -m workers POOL` whose metrics are asked for over HTTP."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def line(self, event: str) -> dict[str, str]:
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            while raw := await self.process.stderr.readline():
                found: dict[str, str] = json.loads(raw)
                if found["event"] == event:
                    return found
        raise AssertionError(f"no event {event!r}")

    async def scrape(self) -> Figures:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = (await client.get(self.url)).raise_for_status()
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return parsed(answer.text)


@contextlib.asynccontextmanager
async def worker(
    name: str, broker: Broker, tmp_path: Path, **environment: str
) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", name),
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "LOOPAI_NATS_URL": broker.url,
            "LOOPAI_DATA_DIR": str(tmp_path / "data"),
            "LOOPAI_METRICS": "127.0.0.1:0",
            **environment,
        },
    )
    started = Worker(process)
    try:
        served = await started.line("metrics served")
        started.url = f"http://{served['host']}:{served['port']}/metrics"
        await started.line("worker started")
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("name", POOLS)
async def test_every_pool_shows_who_it_is_and_stops_in_order(
    name: str, broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """Any pool can be scraped, and its server does not keep it from ending."""
    async with worker(name, broker, tmp_path) as running:
        figures = await running.scrape()
        (labels,) = [labels for figure, labels in figures if figure == "loopai_worker_info"]
        assert ("pool", name) in labels
        assert figures["loopai_worker_deliveries", frozenset()] == 0
        assert figures["loopai_worker_slots", frozenset()] >= 1
        assert figures["process_resident_memory_bytes", frozenset()] > 0
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            assert await running.process.wait() == 0


async def test_what_programs_do_in_cells_is_counted(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """A scrape of a real executor after real executions: outcomes, kills, cells, memory."""
    loop = "def run(input):\n    while input == 'loop':\n        pass\n    return input\n"
    async with (
        contextlib.AsyncExitStack() as stack,
        worker("executor", broker, tmp_path, LOOPAI_RUN_MS_MAX="100") as running,
    ):
        system = await System.started(stack, broker, bus, tmp_path / "data", pools=())
        await system.create("echo", code=loop)
        for text in ("a", "b", "loop"):
            await system.http.post("/api/v1/tasks/echo/execute", json={"input": text})
        figures = await running.scrape()

        async def weighed() -> bool:
            # A CPython takes some megabytes, however much it shares.
            found = await running.scrape()
            return 2**20 < found["loopai_cell_memory_bytes", frozenset()] < 2**30

        await until(weighed)

    assert figures["loopai_cell_outcomes_total", frozenset({("kind", "success")})] >= 2
    assert figures["loopai_cell_outcomes_total", frozenset({("kind", "timeout")})] == 1
    assert figures["loopai_cell_kills_total", frozenset({("cause", "timeout")})] == 1
    assert figures["loopai_cell_outcomes_total", frozenset({("kind", "killed")})] == 0
    assert figures["loopai_cell_kills_total", frozenset({("cause", "tampered")})] == 0
    assert figures["loopai_cells", frozenset()] >= 1
    assert figures["loopai_cells_started_total", frozenset()] >= 1
    assert figures["loopai_cell_executors_started_total", frozenset()] >= 2
    assert figures["loopai_cell_hits_total", frozenset()] >= 2
    assert figures["loopai_cell_misses_total", frozenset()] >= 1
    assert figures["loopai_cell_batches_waiting", frozenset()] == 0


async def test_scrapes_of_another_thread_meet_cells_that_come_and_go() -> None:
    """The figures belong to the loop's thread; a scrape in the middle must not fail."""
    cells = pool.CellPool(limits.Limits(), cells_max=1)
    shown = CollectorRegistry()
    shown.register(metrics.CellCollector(cells))
    over = threading.Event()
    texts: list[str] = []

    def scrape() -> None:
        while not over.is_set():
            texts.append(generate_latest(shown).decode())

    scraping = asyncio.create_task(asyncio.to_thread(scrape))
    try:
        for number in range(10):
            code = f"def run(input):\n    return {number}\n"
            one = program.Program(tenant="one", digest=str(number), code=code)
            (ended,) = await cells.run(one, [b"null"], [5_000.0])
            assert ended.kind == "success"
    finally:
        over.set()
        await scraping
        await cells.close()
    figures = parsed(generate_latest(shown).decode())
    assert len(texts) > 1
    assert figures["loopai_cell_misses_total", frozenset()] == 10
    assert figures["loopai_cell_evictions_total", frozenset()] == 9
    assert figures["loopai_cell_kills_total", frozenset({("cause", "closed")})] >= 10
    assert figures["loopai_cells", frozenset()] == 0
    assert figures["loopai_cell_memory_bytes", frozenset()] == 0


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign")]
)
def test_an_address_that_cannot_be_had_stops_the_start(host: str, reason: str) -> None:
    """One line names the address, why, and the variable; nothing else was begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "workers", "recorder"],
            env={**os.environ, "LOOPAI_METRICS": f"{host}:{port}"},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot serve metrics on {host}:{port} ({reason}")
    assert "LOOPAI_METRICS" in done.stderr
    assert done.stderr.count("\n") == 1
