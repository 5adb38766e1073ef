"""Program texts in memory: as many as fit, whatever their number."""

from datetime import UTC, datetime
from typing import Any

import pytest

from loopai.catalog.stores import store as stores
from streams.messages import ProgramArtifact
from workers import texts


class Store:
    """A catalogue that has texts of *size* characters."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.read: list[str] = []

    async def code(self, artifact: ProgramArtifact) -> str:
        self.read.append(artifact.digest)
        if self.size < 0:
            raise stores.StoreError("gone")
        return "#" * self.size


def artifact(digest: str) -> ProgramArtifact:
    now = datetime.now(UTC)
    return ProgramArtifact(
        id="a", task_id="t", version=1, language="python", digest=digest, created_at=now
    )


def kept(store: Any, **bounds: int) -> texts.Texts:
    return texts.Texts(store, **bounds)


async def test_a_text_is_read_once() -> None:
    """The second batch finds it; another tenant's is another program."""
    store = Store()
    known = kept(store)
    first = await known.program("one", artifact("a"))
    assert await known.program("one", artifact("a")) is first
    assert (await known.program("two", artifact("a"))).tenant == "two"
    assert store.read == ["a", "a"]


async def test_a_thousand_small_texts_stay() -> None:
    """As many as cells can be warm."""
    store = Store(10_000)
    known = kept(store)
    for _ in range(2):
        for number in range(1_000):
            await known.program("one", artifact(str(number)))
    assert len(store.read) == 1_000


async def test_the_text_used_least_recently_goes() -> None:
    """Room for two; a third takes that of the one that nobody used since."""
    store = Store(10_000)
    known = kept(store, bytes_max=2 * (10_000 + texts.OVERHEAD_BYTES))
    for digest in ("a", "b", "a", "c", "a", "b"):
        await known.program("one", artifact(digest))
    assert store.read == ["a", "b", "c", "b"]


async def test_a_text_larger_than_the_room_is_used_all_the_same() -> None:
    """One at a time is always kept."""
    known = kept(Store(100), bytes_max=1)
    for digest in ("a", "b"):
        assert (await known.program("one", artifact(digest))).digest == digest


async def test_a_text_that_cannot_be_read_is_not_remembered_as_such() -> None:
    """It may be a volume that is not there yet: the next one who asks reads again."""
    store = Store(-1)
    known = kept(store)
    with pytest.raises(stores.StoreError, match="gone"):
        await known.program("one", artifact("a"))
    store.size = 1
    assert (await known.program("one", artifact("a"))).code == "#"
