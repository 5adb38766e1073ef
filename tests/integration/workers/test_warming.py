"""What an executor has in memory before anybody asks for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from loopai import settings
from loopai.catalog import catalog
from loopai.catalog.cache import cache, memory
from loopai.catalog.stores import filesystem
from loopai.catalog.stores import store as stores
from streams import codec, connection, ids, messages, store, subjects, topology
from streams.messages import Language, TaskSpecification
from tests.wait import until
from workers import warming


class Site:
    """A catalogue that tests write through, and executors' caches beside it."""

    def __init__(self, bus: connection.Connection, folder: Path, known: catalog.Catalog) -> None:
        self.known = known
        self.folder = folder
        self._bus = bus

    async def create(self, name: str, code: str, language: Language = "python") -> str:
        """A task with *code* as its active version; the digest of it."""
        now = datetime.now(UTC)
        task = TaskSpecification(
            id=ids.new(), tenant="default", name=name, created_at=now, updated_at=now
        )
        await self.known.create_task(task)
        return await self.activate(task.id, code, language)

    async def activate(self, task_id: str, code: str, language: Language = "python") -> str:
        now = datetime.now(UTC)
        new = catalog.new_artifact(task_id, language=language, created_by="test", now=now)
        made = await self.known.create_artifact(
            msgspec.structs.replace(new, status="validated"),
            code,
        )
        await self.known.activate(made, by="test", now=now)
        return made.digest

    @contextlib.asynccontextmanager
    async def executor(self, bytes_max: int = 2**20) -> AsyncIterator["Warm"]:
        """Its cache and its warmer, as the pool opens them."""
        shown = CollectorRegistry()
        known = settings.Settings(cache_bytes_max=bytes_max)
        files = filesystem.FilesystemStore(self.folder)
        async with (
            cache.opened(known, files, shown) as texts,
            catalog.Catalog(self._bus, files, texts).opened() as own,
            warming.Warmer(self._bus, own, languages=["python"]).opened(bytes_max=bytes_max),
        ):
            yield Warm(texts, shown)


class Warm:
    def __init__(self, texts: cache.ProgramCache, shown: CollectorRegistry) -> None:
        self.texts = texts
        self._shown = shown

    def fetched(self) -> float:
        """How many texts came from the store, so far."""
        return self._count("store", "hit")

    def missed(self) -> float:
        return self._count("memory", "miss")

    def _count(self, layer: str, result: str) -> float:
        labels = {"layer": layer, "result": result}
        return self._shown.get_sample_value("loopai_cache_reads_total", labels) or 0.0

    async def has(self, digest: str) -> bool:
        """Whether the text was there without being fetched for this."""
        before = self.missed()
        with contextlib.suppress(stores.StoreError):
            await self.texts.get(digest)
        return self.missed() == before


@pytest.fixture
async def site(bus: connection.Connection, tmp_path: Path) -> AsyncIterator[Site]:
    folder = tmp_path / "store"
    async with catalog.Catalog(bus, filesystem.FilesystemStore(folder)).opened() as known:
        yield Site(bus, folder, known)


async def test_an_executor_fetches_what_is_active_at_its_start(site: Site) -> None:
    """Before anybody asks; and nothing that it cannot run, or that no rollout leads to."""
    wanted = [await site.create(f"task-{number}", f"# {number}") for number in range(10)]
    other = await site.create("other", "// 1", "javascript")
    async with site.executor() as warm:
        await until(lambda: warm.fetched() == len(wanted))
        assert [await warm.has(digest) for digest in wanted] == [True] * len(wanted)
        assert not await warm.has(other)


async def test_an_activated_version_is_fetched_before_it_is_asked_for(site: Site) -> None:
    """The rollout's change is enough, whoever made it."""
    await site.create("task", "# 1")
    task = await site.known.task("default", "task")
    async with site.executor() as warm:
        await until(lambda: warm.fetched() == 1)
        for number in range(2, 12):
            digest = await site.activate(task.id, f"# {number}")
            await until(lambda expected=number: warm.fetched() == expected)
            assert await warm.has(digest)


async def test_what_ran_lately_comes_first_then_what_was_activated_last(
    site: Site, bus: connection.Connection
) -> None:
    """Memory has room for two: the one that workers tell of, and the newest."""
    digests = {name: await site.create(name, f"# {name}") for name in ("a", "b", "c", "d")}
    workers = store.Bucket(bus, topology.WORKERS, codec.WORKER)
    rates = {subjects.placed("bulk", (0, 0), "default", "b"): 2.5, "of.another.make": 9.0}
    presence = messages.WorkerPresence(
        pool="executor",
        instance="one",
        host="h",
        pid=1,
        started_at=datetime.now(UTC),
        rates=rates,
    )
    await workers.put("executor.one", presence)
    text = await site.known.artifact((await site.known.task("default", "a")).id, 1)
    room = 2 * (text.size_bytes + memory.OVERHEAD_BYTES) + 200
    async with site.executor(bytes_max=room) as warm:
        await until(lambda: warm.fetched() == 2)
        assert [await warm.has(digests[name]) for name in ("b", "d")] == [True, True]


async def test_a_text_that_cannot_be_read_keeps_nobody_from_theirs(site: Site) -> None:
    """One file is damaged; the other texts are fetched, and later activations as well."""
    damaged = await site.create("damaged", "# damaged")
    (site.folder / "by-digest" / damaged[:2] / damaged).write_text("# evil")
    whole = [await site.create(f"task-{number}", f"# {number}") for number in range(8)]
    async with site.executor() as warm:
        await until(lambda: warm.fetched() == len(whole))
        assert await warm.has(await activated_late(site, warm))
        assert not await warm.has(damaged)


async def activated_late(site: Site, warm: Warm) -> str:
    before = warm.fetched()
    digest = await site.create("late", "# late")
    await until(lambda: warm.fetched() == before + 1)
    return digest


async def test_warming_ends_with_its_executor(site: Site) -> None:
    """In the middle of it, too; nothing of it is left behind."""
    for number in range(20):
        await site.create(f"task-{number}", f"# {number}")
    before = asyncio.all_tasks()
    async with site.executor():
        pass
    await until(lambda: asyncio.all_tasks() <= before)
