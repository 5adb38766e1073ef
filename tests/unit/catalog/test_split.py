"""Which executions are a canary's."""

from datetime import UTC, datetime

import pytest

from loopai.catalog import split
from streams import ids
from streams.messages import Canary, Rollout

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = "019b7e4f-0000-7000-8000-000000000001"
MANY = 20_000


def _rollout(percent: float, task_id: str = TASK) -> Rollout:
    canary = Canary(version=2, percent=percent, started_at=NOW)
    return Rollout(task_id=task_id, active=1, canary=canary)


def _ids() -> list[str]:
    return ids.several(1_767_323_075_678, MANY)


def _in_canary(percent: float, found: list[str]) -> set[str]:
    return {each for each in found if split.version(_rollout(percent), each, None) == 2}


@pytest.mark.parametrize("percent", [1, 10, 33.33, 90])
def test_a_canary_gets_its_share(percent: float) -> None:
    """Of 20,000 ids, of one millisecond even, within one percent of all."""
    found = len(_in_canary(percent, _ids())) / MANY * 100
    assert found == pytest.approx(percent, abs=1)


def test_the_least_share_is_a_ten_thousandth() -> None:
    """Two decimals count: of a hundred times as many keys as places about a hundred are in it."""
    keys = [f"key {number}" for number in range(100 * split.PLACES)]
    found = sum(split.version(_rollout(0.01), "", key) == 2 for key in keys)
    assert 60 < found < 140


def test_a_whole_share_is_everybody() -> None:
    """At 100 percent nothing is left to the active version."""
    assert len(_in_canary(100, _ids())) == MANY


def test_percentages_that_no_float_holds_are_rounded_to_places() -> None:
    """1.1 * 100 is more than 110, 0.29 * 100 less than 29: neither moves the border by a place."""
    by_place = {split.place(TASK, f"key {number}"): f"key {number}" for number in range(200_000)}
    for percent, places in ((1.1, 110), (0.29, 29), (0.57, 57), (2.2, 220)):
        for place, version in ((places - 1, 2), (places, 1)):
            assert split.version(_rollout(percent), "", by_place[place]) == version


def test_a_share_that_grows_keeps_who_was_in_it() -> None:
    """Nobody who has met the new version goes back to the old one while it grows."""
    found = _ids()
    before: set[str] = set()
    for percent in (0.01, 1, 5, 5.01, 25, 50, 100):
        now = _in_canary(percent, found)
        assert before <= now
        before = now


def test_a_routing_key_goes_before_the_id() -> None:
    """One customer is on one side, whatever the ids of its executions are."""
    for key in ("customer-1", "customer-2", "ü" * 256):
        sides = {split.version(_rollout(50), each, key) for each in _ids()[:1000]}
        assert len(sides) == 1
    sides = {split.version(_rollout(50), "", f"customer-{number}") for number in range(100)}
    assert sides == {1, 2}


def test_a_key_is_elsewhere_in_another_task() -> None:
    """Those who meet the canary of one task are not those of all tasks."""
    keys = [f"customer-{number}" for number in range(1000)]
    one = {key for key in keys if split.version(_rollout(50), "", key) == 2}
    other = _rollout(50, "019b7e4f-0000-7000-8000-000000000002")
    both = {key for key in one if split.version(other, "", key) == 2}
    assert 0.4 < len(both) / len(one) < 0.6


def test_places_are_the_same_for_ever() -> None:
    """Another release must not move customers from one side to the other."""
    assert split.place(TASK, "customer-1") == 1598


def test_without_a_canary_the_active_version_answers() -> None:
    """And without one that is active there is none to choose."""
    assert split.version(Rollout(task_id=TASK, active=7), "", "key") == 7
    with pytest.raises(LookupError):
        split.version(Rollout(task_id=TASK), "", "key")
