"""Workers as processes, scraped over HTTP as Prometheus does."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loopai.embedded.broker import Broker
from streams import connection, provision, topology
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
async def worker(pool: str, broker: Broker, tmp_path: Path) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", pool),
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "LOOPAI_NATS_URL": broker.url,
            "LOOPAI_DATA_DIR": str(tmp_path / "data"),
            "LOOPAI_METRICS": "127.0.0.1:0",
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


@pytest.fixture
async def provisioned(broker: Broker) -> Broker:
    connected = await connection.connect(broker.url, name="test")
    await provision.apply(connected, topology.topology())
    await connected.close()
    return broker


@pytest.mark.parametrize("pool", POOLS)
async def test_every_pool_shows_who_it_is_and_stops_in_order(
    pool: str, provisioned: Broker, tmp_path: Path
) -> None:
    """Any pool can be scraped, and its server does not keep it from ending."""
    async with worker(pool, provisioned, tmp_path) as running:
        figures = await running.scrape()
        (labels,) = [set(labels) for name, labels in figures if name == "loopai_worker_info"]
        assert ("pool", pool) in labels
        assert figures["loopai_worker_deliveries", frozenset()] == 0
        assert figures["loopai_worker_slots", frozenset()] >= 1
        assert figures["process_resident_memory_bytes", frozenset()] > 0
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            assert await running.process.wait() == 0


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
