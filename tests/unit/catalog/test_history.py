"""The lines of a rollout's history, and the way back that they are."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from loopai.catalog import history
from streams.messages import Canary, Rollout, RolloutAction, RolloutChange

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AUTHOR = history.Author(by="test", now=NOW)


def _activated(rollout: Rollout, version: int, action: RolloutAction = "activate") -> Rollout:
    new = msgspec.structs.replace(rollout, active=version)
    return history.recorded(rollout, new, AUTHOR, action=action)


def _with_canary(rollout: Rollout, percent: float) -> Rollout:
    canary = Canary(version=9, percent=percent, started_at=NOW)
    return history.recorded(rollout, msgspec.structs.replace(rollout, canary=canary), AUTHOR)


def _path(*versions: int) -> Rollout:
    rollout = Rollout(task_id="t")
    for version in versions:
        rollout = _activated(rollout, version)
    return rollout


def _back(rollout: Rollout) -> Rollout:
    version = history.previous(rollout)
    assert version is not None
    return _activated(rollout, version, "rollback")


@pytest.mark.parametrize(
    ("versions", "expected"),
    [((), None), ((1,), None), ((1, 2), 1), ((1, 2, 1), 2), ((3, 1, 2), 1)],
)
def test_the_way_back_leads_to_what_was_active_before(
    versions: tuple[int, ...], expected: int | None
) -> None:
    """And nowhere where nothing was."""
    assert history.previous(_path(*versions)) == expected


def test_going_back_twice_goes_further_back() -> None:
    """As undo does: 3, 2, 1, and then no further."""
    rollout = _back(_path(1, 2, 3))
    assert rollout.active == 2
    rollout = _back(rollout)
    assert rollout.active == 1
    assert history.previous(rollout) is None


def test_no_way_leads_to_what_was_gone_back_from() -> None:
    """What was bad stays behind, also after another activation."""
    rollout = _activated(_back(_path(1, 2, 3)), 4)
    rollout = _back(rollout)
    assert rollout.active == 2
    assert _back(rollout).active == 1


def test_canaries_and_shadows_are_no_way_back() -> None:
    """They were never active."""
    rollout = _with_canary(_path(1, 2), 5)
    assert history.previous(rollout) == 1


def test_a_canary_that_grows_in_many_steps_keeps_the_way_back() -> None:
    """The history is bounded, and its last activation outlives a hundred lines of another kind."""
    rollout = _path(1, 2)
    for step in range(1, history.HISTORY_MAX * 2):
        rollout = _with_canary(rollout, step / 10)
        assert len(rollout.history) <= history.HISTORY_MAX
        assert history.previous(rollout) == 1
    assert len(rollout.history) == history.HISTORY_MAX


def test_what_changes_nothing_leaves_no_line() -> None:
    """The very rollout comes back, so that nothing is written."""
    rollout = _with_canary(_path(1), 5)
    same = msgspec.structs.replace(rollout)
    assert history.recorded(rollout, same, AUTHOR) is rollout


def test_each_thing_that_changes_has_a_line() -> None:
    """Who activates a version ends the canary: both are there, with what was before."""
    old = msgspec.structs.replace(_with_canary(_path(1), 5), shadow=4)
    new = msgspec.structs.replace(old, active=2, canary=None, shadow=None)
    lines = history.recorded(old, new, AUTHOR, forced=[2, 9]).history[len(old.history) :]
    assert [(c.action, c.version, c.previous, c.forced) for c in lines] == [
        ("activate", 2, 1, True),
        ("canary_off", 9, None, False),
        ("shadow_off", 4, None, False),
    ]


def test_a_promotion_is_one_line() -> None:
    """That the canary has ended is what it says."""
    old = _with_canary(_path(1), 5)
    new = msgspec.structs.replace(old, active=9, canary=None)
    lines = history.recorded(old, new, AUTHOR, action="promote").history[len(old.history) :]
    assert [(c.action, c.version, c.previous) for c in lines] == [("promote", 9, 1)]


def test_a_version_was_deployed_when_it_became_active_last() -> None:
    """Not when it was a canary; and never where it was not."""
    rollout = Rollout(
        task_id="t",
        active=1,
        history=tuple(
            RolloutChange(at=NOW + timedelta(hours=hour), by="test", action=action, version=version)
            for hour, (action, version) in enumerate(
                [("activate", 1), ("activate", 2), ("rollback", 1), ("canary", 2), ("shadow", 3)]
            )
        ),
    )
    hours = [history.deployed_at(rollout, version) for version in (1, 2, 3)]
    assert hours == [NOW + timedelta(hours=2), NOW + timedelta(hours=1), None]
