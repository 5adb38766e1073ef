"""The layers of the cache of program texts on a real Redis and a real folder."""

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from loopai.catalog.cache import breaker, cache, memory, shared
from loopai.catalog.stores import filesystem
from loopai.catalog.stores import store as stores
from loopai.settings import Settings
from tests import redis
from tests.wait import until

ROOT = Path(__file__).parents[3]
CODE = "def run(input):\n    return input\n"
DIGEST = stores.digest(CODE)
KEY = f"loopai:v1:program:{DIGEST}"


class Reader:
    """A process's cache, with what it has to show."""

    def __init__(self, texts: cache.ProgramCache, shown: CollectorRegistry) -> None:
        self.texts = texts
        self._shown = shown

    def count(self, layer: str, result: str) -> float:
        labels = {"layer": layer, "result": result}
        return self._shown.get_sample_value("loopai_cache_reads_total", labels) or 0.0

    def counts(self, layer: str) -> tuple[float, ...]:
        """Hits, misses and errors."""
        return tuple(self.count(layer, result) for result in ("hit", "miss", "error"))

    @property
    def asked(self) -> float:
        """How often Redis was asked for a text."""
        return sum(self.counts("redis"))

    @property
    def bytes(self) -> float:
        return self._shown.get_sample_value("loopai_cache_bytes") or 0.0

    @property
    def is_breaker_open(self) -> bool:
        return bool(self._shown.get_sample_value("loopai_cache_breaker_open"))


class Place:
    """A store, and a Redis before it; `reader` opens caches as processes do."""

    def __init__(self, folder: Path, server: redis.Server) -> None:
        self.store = filesystem.FilesystemStore(folder / "store")
        self.folder = folder / "store"
        self.server = server

    @contextlib.asynccontextmanager
    async def reader(self, **fields: object) -> AsyncIterator[Reader]:
        known = Settings(**{"redis_url": self.server.url, **fields})  # type: ignore[arg-type]
        shown = CollectorRegistry()
        async with cache.opened(known, self.store, shown) as texts:
            yield Reader(texts, shown)

    async def key(self, key: str = KEY) -> bytes | None:
        async with Redis.from_url(self.server.url) as client:
            found: bytes | None = await client.get(key)
            return found


@pytest.fixture(params=["server", "container"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with redis.served(request.param, tmp_path) as server:
        yield Place(tmp_path, server)


async def filled(place: Place, count: int) -> list[str]:
    """The digests of so many texts that only the store has."""
    return [await place.store.put(f"# {number}") for number in range(count)]


async def test_a_text_is_looked_for_in_memory_then_redis_then_the_store(place: Place) -> None:
    """The first reader of all asks the store, the first of another process Redis, others nobody."""
    await place.store.put(CODE)
    async with place.reader() as first:
        for _ in range(3):
            assert await first.texts.get(DIGEST) == CODE
        assert first.counts("memory") == (2, 1, 0)
        assert first.counts("redis") == (0, 1, 0)
        assert first.counts("store") == (1, 0, 0)

        async def is_in_redis() -> bool:
            return await place.key() == CODE.encode()

        await until(is_in_redis)
    async with place.reader() as second:
        assert await second.texts.get(DIGEST) == CODE
        assert second.counts("redis") == (1, 0, 0)
        assert second.counts("store") == (0, 0, 0)


async def test_who_writes_warms_memory_and_redis(place: Place) -> None:
    """Under its name and for its time, both as set; the store has it too."""
    async with place.reader(cache_namespace="a.b", cache_ttl_s=120) as writer:
        assert await writer.texts.put(CODE) == DIGEST
        assert await writer.texts.get(DIGEST) == CODE
        assert writer.counts("memory") == (1, 0, 0)
    assert await place.store.get(DIGEST) == CODE
    assert await place.key() is None
    async with Redis.from_url(place.server.url) as client:
        assert [key async for key in client.scan_iter()] == [f"a.b:v1:program:{DIGEST}".encode()]
        assert 60 < await client.ttl(f"a.b:v1:program:{DIGEST}") <= 120


async def test_the_defaults_are_an_hour_and_a_name_of_ours(place: Place) -> None:
    """What a Redis that others use as well is filled with."""
    async with place.reader() as writer:
        await writer.texts.put(CODE)
    async with Redis.from_url(place.server.url) as client:
        assert 3_500 < await client.ttl(KEY) <= 3_600


@pytest.mark.parametrize("poison", [b"def run(input):\n    return 'evil'\n", b"\xff", b"x" * 2**22])
async def test_another_text_in_redis_is_not_used(place: Place, poison: bytes) -> None:
    """It is deleted, and the store's takes its place; so it is where it is far too long."""
    await place.store.put(CODE)
    async with Redis.from_url(place.server.url) as client:
        await client.set(KEY, poison)
    async with place.reader() as reader:
        assert await reader.texts.get(DIGEST) == CODE
        assert reader.counts("redis") == (0, 1, 0)

        async def is_mended() -> bool:
            return await place.key() == CODE.encode()

        await until(is_mended)


async def test_a_poisoned_text_that_the_store_lacks_is_deleted(place: Place) -> None:
    """Nobody else has to find out."""
    async with Redis.from_url(place.server.url) as client:
        await client.set(KEY, b"evil")
    async with place.reader() as reader:
        with pytest.raises(stores.StoreError, match="cannot read"):
            await reader.texts.get(DIGEST)
        assert reader.counts("store") == (0, 1, 0)
    assert await place.key() is None


async def test_a_key_of_another_kind_is_an_error_that_no_caller_sees(place: Place) -> None:
    """Somebody put a list there."""
    await place.store.put(CODE)
    async with Redis.from_url(place.server.url) as client:
        await client.lpush(KEY, "x")  # type: ignore[misc]  # its types cover the blocking client
    async with place.reader() as reader:
        assert await reader.texts.get(DIGEST) == CODE
        assert reader.counts("redis") == (0, 0, 1)


async def test_a_text_that_is_too_long_for_redis_stays_in_the_store(place: Place) -> None:
    """What Redis is given can be read from it again."""
    longest = "#" * shared.TEXT_BYTES_MAX
    async with place.reader() as reader:
        kept, left = [await reader.texts.put(text) for text in (longest, longest + "#")]
    assert await place.key(f"loopai:v1:program:{left}") is None
    async with place.reader() as other:
        assert await other.texts.get(kept) == longest
        assert await other.texts.get(left) == longest + "#"
        assert other.counts("redis") == (1, 1, 0)


async def test_a_hundred_who_miss_the_same_text_make_one_read(place: Place) -> None:
    """Of the store and of Redis; one that gives up takes it from nobody."""
    await place.store.put(CODE)
    async with place.reader() as reader:
        asking = [asyncio.create_task(reader.texts.get(DIGEST)) for _ in range(100)]
        await asyncio.sleep(0)
        asking[0].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert found[1:] == [CODE] * 99
        assert isinstance(found[0], asyncio.CancelledError)
        assert reader.counts("redis") == (0, 1, 0)
        assert reader.counts("store") == (1, 0, 0)


async def test_a_read_that_failed_is_tried_again(place: Place) -> None:
    """All who waited for it are told; what is put back is found."""
    async with place.reader() as reader:
        asking = [reader.texts.get(DIGEST) for _ in range(10)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(each, stores.StoreError) for each in found)
        await place.store.put(CODE)
        assert await reader.texts.get(DIGEST) == CODE


async def test_memory_stays_below_its_bound(place: Place) -> None:
    """The text used least recently goes; the others are found without asking anybody."""
    names = await filled(place, 4)
    size = sys.getsizeof("# 0") + memory.OVERHEAD_BYTES
    async with place.reader(cache_bytes_max=3 * size) as reader:
        for name in (*names[:3], names[0], names[3]):
            await reader.texts.get(name)
            assert reader.bytes <= 3 * size
        before = reader.count("memory", "miss")
        for name in (names[0], names[2], names[3]):
            await reader.texts.get(name)
        assert reader.count("memory", "miss") == before
        await reader.texts.get(names[1])
        assert reader.count("memory", "miss") == before + 1


async def test_a_text_larger_than_memory_is_served_all_the_same(place: Place) -> None:
    """It is fetched each time."""
    await place.store.put(CODE)
    async with place.reader(cache_bytes_max=1) as reader:
        assert [await reader.texts.get(DIGEST) for _ in range(2)] == [CODE] * 2
        assert reader.bytes == 0


async def test_without_a_redis_there_are_two_layers(place: Place) -> None:
    """Nothing asks for one that is not set."""
    await place.store.put(CODE)
    async with place.reader(redis_url="") as reader:
        assert await reader.texts.get(DIGEST) == CODE
        assert reader.counts("store") == (1, 0, 0)
        assert reader.asked == 0


async def test_a_redis_that_dies_in_the_middle_is_missed_by_nobody(place: Place) -> None:
    """Reads go on while it is away, and ask it a few times at most, then once each five seconds."""
    names = await filled(place, 300)
    async with place.reader(cache_bytes_max=1) as reader:
        for name in names[:50]:
            await reader.texts.get(name)
        assert reader.count("redis", "error") == 0
        await place.server.kill()
        killed = time.monotonic()
        for number, name in enumerate(names):
            assert await reader.texts.get(name) == f"# {number}"
        assert reader.is_breaker_open
        trials = (time.monotonic() - killed) // breaker.OPEN_S
        assert 0 < reader.count("redis", "error") <= breaker.FAILURES_MAX + trials
        assert reader.count("store", "error") == 0


async def test_the_breaker_closes_when_redis_is_back(place: Place) -> None:
    """After the pause one call tries it; from then on all use it."""
    names = await filled(place, 20)
    async with place.reader(cache_bytes_max=1) as reader:
        await place.server.kill()

        async def opens() -> bool:
            await asyncio.gather(*(reader.texts.get(name) for name in names))
            return reader.is_breaker_open

        await until(opens)
        await place.server.start()

        async def closes() -> bool:
            await reader.texts.get(names[0])
            return not reader.is_breaker_open

        await until(closes)
        hits = reader.count("redis", "hit")
        failed = reader.count("redis", "error")

        async def hits_again() -> bool:
            await reader.texts.get(names[1])
            return reader.count("redis", "hit") > hits

        await until(hits_again)
        assert reader.count("redis", "error") == failed


async def test_a_redis_that_never_answers_holds_nobody_up_for_long(place: Place) -> None:
    """It accepts and is silent. A few are kept waiting once, however many come."""
    names = await filled(place, 200)
    async with place.reader(cache_bytes_max=1) as reader:
        await reader.texts.get(names[0])
        place.server.pause()
        async with asyncio.timeout(10):
            found = await asyncio.gather(*(reader.texts.get(name) for name in names))
        assert found == [f"# {number}" for number in range(200)]
        assert reader.is_breaker_open
        # All that may ask at once; and who has the place of one that failed before it opened.
        most = shared.CONNECTIONS_MAX + breaker.FAILURES_MAX - 1
        assert breaker.FAILURES_MAX <= reader.count("redis", "error") <= most
        failed = reader.count("redis", "error")
        await asyncio.gather(*(reader.texts.get(name) for name in names))
        assert reader.count("redis", "error") == failed
        place.server.resume()


async def test_a_redis_that_is_down_at_the_start_is_told_of_once(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """The start goes on, without the password in the log, and reads do not ask it."""
    names = await filled(place, 20)
    await place.server.kill()
    url = place.server.url.replace("//", "//user:secret@")
    async with place.reader(redis_url=url, cache_bytes_max=1) as reader:
        await until(lambda: reader.is_breaker_open)
        for name in names:
            await reader.texts.get(name)
        assert reader.asked == 0
    said = "".join(capfd.readouterr())
    assert said.count("redis does not answer") == 1
    assert f"redis://***@127.0.0.1:{place.server.port}/0" in said
    assert "secret" not in said


async def test_two_processes_share_what_redis_has(place: Place) -> None:
    """What one process stored another finds in Redis, without the store's folder."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from prometheus_client import CollectorRegistry\n"
        "from loopai.catalog.stores import filesystem\n"
        "from loopai.catalog.cache import cache\n"
        "from loopai.settings import Settings\n"
        "async def main(folder, url, code):\n"
        "    store = filesystem.FilesystemStore(Path(folder))\n"
        "    known = Settings(redis_url=url)\n"
        "    async with cache.opened(known, store, CollectorRegistry()) as texts:\n"
        "        print(await texts.put(code))\n"
        "asyncio.run(main(*sys.argv[1:]))\n"
    )
    elsewhere = place.folder.with_name("elsewhere")
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(elsewhere), place.server.url, CODE),
        cwd=ROOT,
        env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await done.communicate()
    assert printed.decode().strip() == hashlib.sha256(CODE.encode()).hexdigest()
    async with place.reader() as reader:
        assert await reader.texts.get(DIGEST) == CODE
        assert reader.counts("redis") == (1, 0, 0)
