"""Two sites with a store each: what one writes the other follows, takes over and tells of."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from loopai.catalog.stores import store
from loopai.embedded.broker import Broker
from streams import connection
from streams.messages import ProgramArtifact, SiteState
from tests.system import UPPER, System
from tests.wait import until
from workers import executor, syncer

LOWER = "def run(input):\n    return input.lower()\n"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Where the other site keeps its programs."""
    return tmp_path / "there"


@pytest.fixture
async def here(broker: Broker, bus: connection.Connection, tmp_path: Path) -> AsyncIterator[System]:
    """An ingress with its store, a syncer of its site, and no executor."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "here", pools=(syncer,))


async def follow(here: System, there: Path) -> None:
    fields = {"site": "there", "store_url": f"file://{there}"}
    await here.start_pool(syncer, "syncer-there", **fields)


async def state(here: System, site: str = "there") -> SiteState | None:
    answer = (await here.http.get("/api/v1/sync")).raise_for_status().json()
    found = [each for each in answer["sites"] if each["site"] == site]
    return found[0] if found else None


async def told(here: System, **wanted: object) -> None:
    """Return when the API says *wanted* of the other site."""

    async def is_so() -> bool:
        found = await state(here)
        return found is not None and {name: found[name] for name in wanted} == wanted

    await until(is_so)


def text(folder: Path, version: int = 1) -> str | None:
    path = folder / "default" / "upper" / f"v{version}" / "program.py"
    return path.read_text() if path.exists() else None


def active(folder: Path) -> str:
    return (folder / "default/upper/active").resolve().name


def described(folder: Path, version: int) -> ProgramArtifact:
    content = (folder / f"default/upper/v{version}/metadata.json").read_bytes()
    return msgspec.json.decode(content, type=ProgramArtifact)


def of_digest(folder: Path) -> Path:
    """The text that all programs here begin with, where a site keeps it."""
    return next(each for each in folder.rglob(store.digest(UPPER)))


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_text(UPPER.replace("upper", "lower"))


def content(path: Path) -> str:
    return path.read_text()


def block(folder: Path) -> None:
    """A file where the folder should be."""
    shutil.rmtree(folder)
    folder.write_text("in the way")


def unblock(folder: Path) -> None:
    folder.unlink()


async def test_a_site_takes_over_what_it_lacks(here: System, there: Path) -> None:
    """Versions from before it was there, and from after."""
    task = await here.create()
    await follow(here, there)
    await told(here, versions=1, missing=0, lag_s=0.0, conflicts=0, reason="")
    assert text(there) == UPPER
    await here.store(task["id"], LOWER)
    await told(here, versions=2, missing=0)
    assert text(there, 2) == LOWER
    await until(lambda: active(there) == "v2")
    assert described(there, 2).version == 2


async def test_an_executor_fetches_what_its_site_lacks(here: System, there: Path) -> None:
    """It does not wait for the syncer, which this site has none of."""
    await here.create()
    await here.start_pool(executor, site="there", store_url=f"file://{there}")
    answer = await here.execute("a")
    assert answer.json()["output"] == "A"
    assert of_digest(there)


async def test_a_damaged_text_is_taken_over_again(here: System, there: Path) -> None:
    await here.create()
    await follow(here, there)
    await told(here, versions=1, missing=0)
    damaged = of_digest(there)
    damage(damaged)
    await here.start_pool(executor, site="there", store_url=f"file://{there}")
    assert (await here.execute("a")).json()["output"] == "A"
    assert store.digest(content(damaged)) == damaged.name


async def test_a_task_made_anew_is_a_conflict_that_the_registry_decides(
    here: System, there: Path
) -> None:
    """A site that slept through it has the old program under the same name and number."""
    await here.create()
    await follow(here, there)
    await told(here, versions=1, missing=0)
    await here.stop_pool(syncer, "syncer-there")
    (await here.http.delete("/api/v1/tasks/upper")).raise_for_status()
    await here.create(code=LOWER)
    await follow(here, there)
    await told(here, versions=1, missing=0, conflicts=1)
    assert text(there) == LOWER
    found = await state(here)
    assert found is not None
    (conflict,) = found["latest_conflicts"]  # type: ignore[index]
    assert (conflict["task"], conflict["version"]) == ("upper", 1)
    assert conflict["expected"] == store.digest(LOWER)
    assert conflict["found"] == store.digest(UPPER)


async def test_a_store_that_cannot_be_written_is_told_and_followed_later(
    here: System, there: Path
) -> None:
    await follow(here, there)
    await told(here, versions=0, missing=0)
    block(there)
    await here.create()

    async def behind() -> bool:
        found = await state(here)
        return found is not None and found["missing"] == 1 and found["lag_s"] > 0

    await until(behind)
    found = await state(here)
    assert found is not None
    assert str(there) in found["reason"]
    figures = here.figures["syncer-there"]
    assert figures.get_sample_value("loopai_sync_missing") == 1
    unblock(there)
    await told(here, missing=0, lag_s=0.0, reason="")
    assert text(there) == UPPER
    await until(lambda: figures.get_sample_value("loopai_sync_missing") == 0)


async def test_a_site_without_its_syncer_is_not_shown(here: System, there: Path) -> None:
    await follow(here, there)
    await told(here, versions=0)
    await here.stop_pool(syncer, "syncer-there")

    async def gone() -> bool:
        return await state(here) is None

    await until(gone)
    assert await state(here, "main") is not None
