"""Executions while parts of the catalogue are away: known programs go on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests import redis
from tests.system import System
from tests.wait import until
from workers import executor, recorder

TASKS = 8


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[redis.Server]:
    async with redis.served("server", tmp_path) as started:
        yield started


@pytest.fixture
async def shared(
    broker: Broker, bus: connection.Connection, tmp_path: Path, server: redis.Server
) -> AsyncIterator[System]:
    """A system on a Redis, with programs stored and no executor yet."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(recorder,), redis_url=server.url
        )
        for number in range(TASKS):
            await system.create(f"task-{number}", f"def run(input):\n    return '{number}'\n")
        yield system


async def all_answer(system: System) -> None:
    answers = await asyncio.gather(
        *(system.execute("", f"task-{number}") for number in range(TASKS))
    )
    assert [each.json().get("output") for each in answers] == [str(n) for n in range(TASKS)]


def value(system: System, name: str, **labels: str) -> float:
    return system.figures["executor-test"].get_sample_value(name, labels) or 0.0


async def test_executions_go_on_while_redis_dies_and_comes_back(
    shared: System, server: redis.Server
) -> None:
    """Of an executor that keeps nothing in memory, so that each batch asks for its text."""
    await shared.start_pool(executor, cache_bytes_max=1)
    await all_answer(shared)
    assert value(shared, "loopai_cache_reads_total", layer="redis", result="hit") >= TASKS
    await server.kill()

    async def opens() -> bool:
        await all_answer(shared)
        return value(shared, "loopai_cache_breaker_open") == 1

    await until(opens)
    await server.start()

    async def closes() -> bool:
        await all_answer(shared)
        return value(shared, "loopai_cache_breaker_open") == 0

    await until(closes)


async def test_an_executor_that_starts_without_the_store_runs_what_redis_has(
    shared: System,
) -> None:
    """The folder is gone; every text was stored through Redis."""
    folder = Path(shared.settings.data_dir) / "artifacts"
    folder.rename(folder.with_name("away"))
    await shared.start_pool(executor)
    await all_answer(shared)
    assert value(shared, "loopai_cache_reads_total", layer="store", result="hit") == 0


async def test_known_programs_run_while_redis_and_the_store_are_away(
    shared: System, server: redis.Server
) -> None:
    """What is in memory needs neither; the executor fetched it at its start."""
    await shared.start_pool(executor)
    await until(
        lambda: value(shared, "loopai_cache_reads_total", layer="redis", result="hit") == TASKS
    )
    await server.kill()
    folder = Path(shared.settings.data_dir) / "artifacts"
    folder.rename(folder.with_name("away"))
    await all_answer(shared)
    assert value(shared, "loopai_cache_reads_total", layer="redis", result="error") == 0
