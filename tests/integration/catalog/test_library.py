"""The catalogue as processes open it: on both stores, without Redis, with one, with one away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from loopai.catalog import catalog, library
from loopai.catalog.stores import store
from loopai.embedded.broker import Broker
from loopai.settings import Settings
from streams import connection, ids, messages
from tests import redis
from tests.stores import Place

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = "def run(input):\n    return input\n"
CREATORS = 20

Opened = Callable[[], AbstractAsyncContextManager[catalog.Catalog]]


@pytest.fixture(params=["without redis", "redis", "redis away"])
async def redis_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "without redis":
        yield ""
        return
    async with redis.served("server", tmp_path) as server:
        if request.param == "redis away":
            await server.kill()
        yield server.url


@pytest.fixture
def process(broker: Broker, bus: connection.Connection, place: Place, redis_url: str) -> Opened:
    """Opens the catalogue as another process does: nothing is shared but bus, store and Redis."""
    known = Settings(store_url=place.url, redis_url=redis_url)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[catalog.Catalog]:
        own = await connection.connect(broker.url, name="process")
        try:
            async with library.opened(known, own, CollectorRegistry(), writes=True) as found:
                yield found
        finally:
            await own.close()

    return opened


async def task(known: catalog.Catalog) -> messages.TaskSpecification:
    made = messages.TaskSpecification(
        id=ids.new(), tenant="default", name="upper", created_at=NOW, updated_at=NOW
    )
    return await known.create_task(made)


def artifact(task_id: str) -> messages.ProgramArtifact:
    new = catalog.new_artifact(task_id, language="python", created_by="test", now=NOW)
    return msgspec.structs.replace(new, status="validated")


async def test_what_one_process_made_another_reads(process: Opened, place: Place) -> None:
    """Version, text, rollout; and people find them in the store."""
    async with process() as one, process() as other:
        made = await task(one)
        first = await one.create_artifact(artifact(made.id), CODE)
        await one.activate(first, by="test", now=NOW)
        assert (await other.require_rollout(made.id)).active == 1
        assert await other.code(await other.artifact(made.id, 1)) == CODE
        assert await place.read("default/upper/v1/program.py") == CODE.encode()
        assert await place.active("default/upper") == "v1"


async def test_versions_are_dense_whoever_creates_them(process: Opened) -> None:
    async with process() as one, process() as other:
        made = await task(one)
        codes = [f"{CODE}# {number}\n" for number in range(CREATORS)]
        created = await asyncio.gather(
            *(
                (one, other)[number % 2].create_artifact(artifact(made.id), code)
                for number, code in enumerate(codes)
            )
        )
        assert sorted(each.version for each in created) == list(range(1, CREATORS + 1))
        for each, code in zip(created, codes, strict=True):
            assert await other.code(await other.artifact(made.id, each.version)) == code


async def test_a_damaged_text_is_read_nowhere(
    process: Opened, place: Place, request: pytest.FixtureRequest
) -> None:
    """One who has it in memory goes on; one who has not asks Redis, and never gets another text."""
    has_redis = request.node.callspec.params["redis_url"] == "redis"
    async with process() as one:
        made = await task(one)
        first = await one.create_artifact(artifact(made.id), CODE)
        await place.damage(first.digest, CODE.replace("input", "other").encode())
        assert await one.code(first) == CODE
        async with process() as other:
            if has_redis:
                assert await other.code(first) == CODE
                return
            with pytest.raises(store.DigestMismatch, match=first.digest):
                await other.code(first)
