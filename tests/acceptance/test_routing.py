"""Workers without a runtime die while they hand work on: nothing is lost or run twice."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from loopai.catalog import catalog
from loopai.catalog.stores import filesystem
from loopai.embedded.program import Program
from loopai.embedded.stack import Options, Stack
from streams import connection, replay, subjects, topology
from tests.acceptance.conftest import Product
from tests.wait import until

SCRIPT = "export function run(input) { return input.toUpperCase(); }\n"


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    """One executor, without Deno; a test starts another one that has it."""
    options = Options(
        http="127.0.0.1:0",
        data_dir=tmp_path / "data",
        nats_port=None,
        environment={"LOOPAI_RUNTIMES": "python"},
    )
    async with Stack(options, lambda _name, _line: None) as stack:
        watching = asyncio.create_task(stack.watch())
        async with httpx.AsyncClient(
            base_url=stack.url, timeout=60, limits=httpx.Limits(max_connections=200)
        ) as http:
            bus = await connection.connect(stack.nats_url, name="test")
            running = Product(stack, http, bus)
            await running.workers.start()
            await until(lambda: len(running.alive("executor")) == 1)
            yield running
            await running.workers.stop()
            await bus.close()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _create(product: Product, data_dir: Path) -> None:
    text = {"type": "string"}
    task = {"name": "upper", "input_schema": text, "output_schema": text}
    task_id = (await product.http.post("/api/v1/tasks", json=task)).json()["id"]
    texts = filesystem.FilesystemStore(data_dir / "artifacts")
    async with catalog.Catalog(product.bus, texts).opened() as known:
        now = datetime.now(UTC)
        new = catalog.new_artifact(task_id, language="javascript", created_by="test", now=now)
        artifact = await known.create_artifact(
            msgspec.structs.replace(new, status="validated"), SCRIPT
        )
        await known.activate(artifact, by="test", now=now)


async def test_a_killed_worker_that_hands_work_on_costs_no_answer_and_repeats_none(
    product: Product, tmp_path: Path
) -> None:
    """kill -9 in the middle of 500 requests in another language: 500 answers, 500 records."""
    await _create(product, tmp_path / "data")
    working = asyncio.create_task(
        product.execute_all([f"text {n}" for n in range(500)], at_once=64)
    )

    async def routed() -> bool:
        subject = subjects.routed_task("default", "upper")
        reading = replay.read(product.bus, topology.EXECUTE.name, subject)
        return len([m async for m in reading]) >= 3

    await until(routed)
    product.kill("executor")
    environment = {
        "LOOPAI_RUNTIMES": "python,deno",
        "LOOPAI_NATS_URL": product.stack.nats_url,
        "LOOPAI_DATA_DIR": str(tmp_path / "data"),
    }
    other = Program("executor-2", ("workers", "executor"), environment, lambda _name, _line: None)
    await other.start()
    try:
        await until(lambda: any(w.pid == other.pid for w in product.alive("executor")))
        languages = {w.pid: w.languages for w in product.alive("executor")}
        assert languages.pop(other.pid) == ("javascript", "python", "typescript")
        assert set(languages.values()) == {("python",)}
        answers = await working
        instance = next(w.instance for w in product.alive("executor") if w.pid == other.pid)
    finally:
        await other.stop(10)

    assert [a.json()["output"] for a in answers] == [f"TEXT {n}" for n in range(500)]
    records = await product.records()
    assert len(records) == len({r.id for r in records}) == 500
    assert {r.id for r in records} == {a.json()["id"] for a in answers}
    assert {r.worker for r in records} == {instance}
    assert (await product.bus.jetstream.stream_info("DEAD")).state.messages == 0
