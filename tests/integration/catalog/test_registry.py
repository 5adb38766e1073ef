"""Versions and rollouts under many writers: no lost update, no torn version."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from loopai import errors
from loopai.catalog import catalog, history, rollouts
from loopai.catalog.stores import filesystem
from loopai.catalog.stores import store as stores
from loopai.embedded.broker import Broker
from streams import connection, ids, messages

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROCESSES = 5


@pytest.fixture
async def sites(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[list[catalog.Catalog]]:
    """The catalogues of several processes, each on a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for number in range(PROCESSES):
            own = await connection.connect(broker.url, name=f"site-{number}")
            stack.push_async_callback(own.close)
            texts = filesystem.FilesystemStore(tmp_path / "texts")
            opened.append(await stack.enter_async_context(catalog.Catalog(own, texts).opened()))
        yield opened


async def _task(known: catalog.Catalog) -> str:
    task = messages.TaskSpecification(
        id=ids.new(), tenant="default", name="t", created_at=NOW, updated_at=NOW
    )
    return (await known.create_task(task)).id


def _artifact(
    task_id: str, status: messages.ArtifactStatus = "validated"
) -> messages.ProgramArtifact:
    made = catalog.new_artifact(task_id, language="python", created_by="test", now=NOW)
    return msgspec.structs.replace(made, status=status)


async def _versions(
    known: catalog.Catalog, task_id: str, count: int, status: messages.ArtifactStatus = "validated"
) -> list[messages.ProgramArtifact]:
    return [
        await known.create_artifact(_artifact(task_id, status), f"# {number}")
        for number in range(1, count + 1)
    ]


async def _change(known: catalog.Catalog, task_id: str, **asked: object) -> messages.Rollout:
    changed, _ = await known.change_rollout(
        task_id, msgspec.convert(asked, rollouts.Change), by="test", now=NOW
    )
    return changed


async def test_two_hundred_creators_make_two_hundred_versions(
    sites: list[catalog.Catalog],
) -> None:
    """From five processes at once: none lost, none twice, each with its own text."""
    task_id = await _task(sites[0])
    made = await asyncio.gather(
        *(
            sites[number % PROCESSES].create_artifact(_artifact(task_id), f"# {number}")
            for number in range(200)
        )
    )
    assert sorted(each.version for each in made) == list(range(1, 201))
    for site in sites:
        listed = await site.artifacts(task_id)
        assert [each.version for each in listed] == list(range(200, 0, -1))
    by_version = {each.version: each for each in await sites[-1].artifacts(task_id)}
    for number, each in enumerate(made):
        assert by_version[each.version] == each
        assert await sites[-1].code(each) == f"# {number}"


async def test_creators_that_are_cut_off_leave_whole_versions(
    sites: list[catalog.Catalog],
) -> None:
    """Cancelled anywhere between its first write and its last, one leaves a version or none."""
    task_id = await _task(sites[0])
    creators = [
        asyncio.create_task(
            sites[number % PROCESSES].create_artifact(_artifact(task_id), f"# {number}")
        )
        for number in range(100)
    ]
    for creator in creators[::2]:
        # A round trip to the broker for each: they are cut off at every step that there is.
        await sites[0].artifacts(task_id)
        creator.cancel()
    ended = await asyncio.gather(*creators, return_exceptions=True)
    assert any(isinstance(each, asyncio.CancelledError) for each in ended)
    last = await sites[0].create_artifact(_artifact(task_id), "# last")

    found = await sites[1].artifacts(task_id)
    assert [each.version for each in found] == list(range(len(found), 0, -1))
    assert found[0] == last
    whole = [each for each in ended if isinstance(each, messages.ProgramArtifact)]
    assert {each.version for each in whole} < {each.version for each in found}
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert stores.digest(await sites[1].code(each)) == each.digest


async def test_concurrent_activations_linearise(sites: list[catalog.Catalog]) -> None:
    """A hundred at once: each line's `previous` is the line before it, the last one is active."""
    task_id = await _task(sites[0])
    made = await _versions(sites[0], task_id, 100)
    await asyncio.gather(
        *(
            sites[number % PROCESSES].activate(each, by=f"{number}", now=NOW)
            for number, each in enumerate(made)
        )
    )
    rollout, _ = await sites[0].rollout(task_id)
    lines = rollout.history
    assert sorted(line.version for line in lines) == list(range(1, 101))
    assert lines[0].previous is None
    assert [line.previous for line in lines[1:]] == [line.version for line in lines[:-1]]
    assert rollout.active == lines[-1].version


async def test_changes_of_several_kinds_lose_nothing_of_each_other(
    sites: list[catalog.Catalog],
) -> None:
    """Canary, shadow and activation by three processes at once: the document has what came last."""
    task_id = await _task(sites[0])
    made = await _versions(sites[0], task_id, 4)
    await sites[0].activate(made[0], by="test", now=NOW)
    for percent in range(1, 11):
        await asyncio.gather(
            _change(sites[0], task_id, canary={"version": 2, "percent": percent}),
            _change(sites[1], task_id, shadow=3 + percent % 2),
        )
        rollout, _ = await sites[2].rollout(task_id)
        assert rollout.canary is not None
        assert (rollout.canary.percent, rollout.shadow) == (percent, 3 + percent % 2)


async def test_a_change_at_an_old_revision_is_refused(sites: list[catalog.Catalog]) -> None:
    """Of many that have seen one revision one wins, and the others are told the current one."""
    task_id = await _task(sites[0])
    made = await _versions(sites[0], task_id, 10)
    await sites[0].activate(made[0], by="test", now=NOW)
    _, seen = await sites[0].rollout(task_id)
    ended = await asyncio.gather(
        *(
            sites[number % PROCESSES].change_rollout(
                task_id,
                rollouts.Change(active=each.version),
                by="test",
                now=NOW,
                revision=seen,
            )
            for number, each in enumerate(made[1:])
        ),
        return_exceptions=True,
    )
    won = [each for each in ended if isinstance(each, tuple)]
    lost = [each for each in ended if isinstance(each, errors.ApiError)]
    assert (len(won), len(lost)) == (1, 8)
    ((rollout, revision),) = won
    assert await sites[0].rollout(task_id) == (rollout, revision)
    for each in lost:
        assert each.code == "PRECONDITION_FAILED"
        assert str(revision) in each.detail


async def test_activating_another_version_ends_the_canary_and_keeps_the_shadow(
    sites: list[catalog.Catalog],
) -> None:
    """A share was one of another comparison; a shadow compares with whatever answers."""
    known = sites[0]
    task_id = await _task(known)
    await _versions(known, task_id, 5)
    await _change(known, task_id, active=1)
    await _change(known, task_id, canary={"version": 2, "percent": 5}, shadow=3)

    same = await _change(known, task_id, active=1)
    assert same.canary is not None

    changed = await _change(known, task_id, active=4)
    assert (changed.active, changed.canary, changed.shadow) == (4, None, 3)
    actions = [line.action for line in changed.history]
    assert actions == ["activate", "canary", "shadow", "activate", "canary_off"]


async def test_a_version_that_answers_is_no_shadow_any_more(sites: list[catalog.Catalog]) -> None:
    """Its program would run twice on every input."""
    known = sites[0]
    task_id = await _task(known)
    await _versions(known, task_id, 3)
    await _change(known, task_id, active=1)
    await _change(known, task_id, shadow=2)
    as_canary = await _change(known, task_id, canary={"version": 2, "percent": 5})
    assert as_canary.shadow is None
    await _change(known, task_id, shadow=3)
    assert (await _change(known, task_id, active=3)).shadow is None


async def test_a_canary_that_grows_keeps_its_beginning(sites: list[catalog.Catalog]) -> None:
    """How long a version is on trial does not begin anew with its share; with a version it does."""
    known = sites[0]
    task_id = await _task(known)
    await _versions(known, task_id, 3)
    await _change(known, task_id, active=1)
    first = await _change(known, task_id, canary={"version": 2, "percent": 1})
    later = NOW.replace(year=2027)
    asked = rollouts.Change(canary=rollouts.NewCanary(version=2, percent=33.333))
    grown, _ = await known.change_rollout(task_id, asked, by="test", now=later)
    assert first.canary is not None
    assert grown.canary == msgspec.structs.replace(first.canary, percent=33.33)
    asked = rollouts.Change(canary=rollouts.NewCanary(version=3, percent=1))
    other, _ = await known.change_rollout(task_id, asked, by="test", now=later)
    assert other.canary is not None
    assert other.canary.started_at == later


async def test_promotion_and_the_way_back(sites: list[catalog.Catalog]) -> None:
    """The canary answers everybody; then what did before, and what did before that."""
    known = sites[0]
    task_id = await _task(known)
    await _versions(known, task_id, 4)
    with pytest.raises(errors.ApiError) as caught:
        await known.rollback(task_id, by="test", now=NOW)
    assert caught.value.code == "NO_PREVIOUS_VERSION"
    await _change(known, task_id, active=1)
    with pytest.raises(errors.ApiError) as caught:
        await known.promote(task_id, by="test", now=NOW)
    assert caught.value.code == "NO_CANARY"
    await _change(known, task_id, active=2)
    await _change(known, task_id, canary={"version": 3, "percent": 5}, shadow=4)

    promoted, _ = await known.promote(task_id, by="test", now=NOW)
    assert (promoted.active, promoted.canary, promoted.shadow) == (3, None, 4)
    await _change(known, task_id, canary={"version": 1, "percent": 5})

    for expected in (2, 1):
        back, revision = await known.rollback(task_id, by="test", now=NOW)
        assert (back.active, back.canary, back.shadow) == (expected, None, 4)
    with pytest.raises(errors.ApiError) as caught:
        await known.rollback(task_id, by="test", now=NOW)
    assert caught.value.code == "NO_PREVIOUS_VERSION"
    assert await known.rollout(task_id) == (back, revision)


async def test_racing_rollbacks_go_back_one_after_the_other(sites: list[catalog.Catalog]) -> None:
    """Five at once of ten versions lead to the fifth, not to the ninth five times."""
    task_id = await _task(sites[0])
    for each in await _versions(sites[0], task_id, 10):
        await sites[0].activate(each, by="test", now=NOW)
    await asyncio.gather(*(site.rollback(task_id, by="test", now=NOW) for site in sites))
    rollout, _ = await sites[0].rollout(task_id)
    assert rollout.active == 5
    assert history.previous(rollout) == 4


@pytest.mark.parametrize("status", ["draft", "failed"])
@pytest.mark.parametrize(
    "asked", [{"active": 2}, {"canary": {"version": 2, "percent": 1}}, {"shadow": 2}]
)
async def test_a_draft_has_a_role_only_by_force(
    sites: list[catalog.Catalog], status: messages.ArtifactStatus, asked: dict[str, object]
) -> None:
    """As active version, canary and shadow; the history says that it was forced."""
    known = sites[0]
    task_id = await _task(known)
    await _versions(known, task_id, 1)
    await known.create_artifact(_artifact(task_id, status), "#")
    before = await _change(known, task_id, active=1)
    with pytest.raises(errors.ApiError, match=f"version 2 is {status}") as caught:
        await _change(known, task_id, **asked)
    assert caught.value.code == "ARTIFACT_NOT_ACTIVATABLE"
    assert (await known.rollout(task_id))[0] == before

    forced = await _change(known, task_id, **asked, force=True)
    assert [line.forced for line in forced.history] == [False, True]
