import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from loopai import errors
from loopai.catalog import catalog, history
from loopai.catalog.stores import filesystem
from streams import codec, connection, ids, messages, store, subjects, topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def known(bus: connection.Connection, tmp_path: Path) -> AsyncIterator[catalog.Catalog]:
    async with catalog.Catalog(
        bus, filesystem.FilesystemStore(tmp_path / "texts")
    ).opened() as opened:
        yield opened


@pytest.fixture
async def elsewhere(bus: connection.Connection, tmp_path: Path) -> AsyncIterator[catalog.Catalog]:
    """The catalogue of another process."""
    async with catalog.Catalog(
        bus, filesystem.FilesystemStore(tmp_path / "texts")
    ).opened() as opened:
        yield opened


def _task(name: str, tenant: str = "default") -> messages.TaskSpecification:
    return messages.TaskSpecification(
        id=ids.new(), tenant=tenant, name=name, created_at=NOW, updated_at=NOW
    )


def _artifact(
    task_id: str, status: messages.ArtifactStatus = "validated"
) -> messages.ProgramArtifact:
    made = catalog.new_artifact(task_id, language="python", created_by="test", now=NOW)
    return msgspec.structs.replace(made, status=status)


async def test_a_tenant_finds_only_its_own(known: catalog.Catalog) -> None:
    """A task of another tenant is found neither by name nor by id, and names may repeat."""
    mine = await known.create_task(_task("same"))
    theirs = await known.create_task(_task("same", "other"))
    only = await known.create_task(_task("only-theirs", "other"))
    assert (await known.task("default", "same")).id == mine.id
    assert (await known.task("other", "same")).id == theirs.id
    assert [each.id for each in await known.tasks("default")] == [mine.id]
    for reference in (theirs.id, only.id, "only-theirs"):
        with pytest.raises(errors.ApiError) as caught:
            await known.task("default", reference)
        assert caught.value.code == "TASK_NOT_FOUND"


async def test_an_id_never_leads_to_a_successor(
    known: catalog.Catalog, bus: connection.Connection
) -> None:
    """A task replaced while nobody looked is not answered with the one that has its name now."""
    old = await known.create_task(_task("name"))
    tasks = store.Bucket(bus, topology.TASKS, codec.TASK)
    new = _task("name")
    await tasks.put(subjects.task_key("default", "name"), new)
    assert (await known.task("default", new.id)).id == new.id
    with pytest.raises(errors.ApiError, match="no task"):
        await known.task("default", old.id)


async def test_writers_in_two_processes_number_versions_densely(
    known: catalog.Catalog, elsewhere: catalog.Catalog
) -> None:
    """Whoever loses the race for a number takes the next one; every text is its own."""
    task = await known.create_task(_task("t"))
    made = await asyncio.gather(
        *(
            (known if number % 2 else elsewhere).create_artifact(_artifact(task.id), f"# {number}")
            for number in range(20)
        )
    )
    assert sorted(each.version for each in made) == list(range(1, 21))
    assert len({each.digest for each in made}) == 20
    for number, each in enumerate(made):
        assert await elsewhere.code(each) == f"# {number}"


@pytest.mark.parametrize("status", ["draft", "failed"])
async def test_drafts_cannot_become_active(
    known: catalog.Catalog, status: messages.ArtifactStatus
) -> None:
    """What was not proven is never switched on, and nothing is active afterwards."""
    task = await known.create_task(_task("t"))
    artifact = await known.create_artifact(_artifact(task.id, status), "#")
    with pytest.raises(errors.ApiError) as caught:
        await known.activate(artifact, by="test", now=NOW)
    assert caught.value.code == "ARTIFACT_NOT_ACTIVATABLE"
    with pytest.raises(errors.ApiError, match="no active version"):
        await known.require_rollout(task.id)


async def test_a_first_activation_is_found_by_another_process(
    known: catalog.Catalog, elsewhere: catalog.Catalog
) -> None:
    """An executor that has never heard of the version finds it rather than refusing."""
    for number in range(10):
        task = await known.create_task(_task(f"t{number}"))
        artifact = await known.create_artifact(_artifact(task.id), "#")
        await known.activate(artifact, by="test", now=NOW)
        assert (await elsewhere.task("default", task.name)).id == task.id
        assert (await elsewhere.require_rollout(task.id)).active == 1
        assert (await elsewhere.artifact(task.id, 1)).id == artifact.id


async def test_the_history_of_a_rollout_is_bounded(known: catalog.Catalog) -> None:
    """A task switched to and fro for years keeps its last hundred changes."""
    task = await known.create_task(_task("t"))
    pair = [await known.create_artifact(_artifact(task.id), f"# {n}") for n in range(2)]
    for number in range(history.HISTORY_MAX + 5):
        rollout = await known.activate(pair[number % 2], by="test", now=NOW)
    assert len(rollout.history) == history.HISTORY_MAX
    assert rollout.active == known.active_version(task.id) == pair[number % 2].version
