"""Deficit round robin: who gets how much, and who is never kept waiting."""

from collections import Counter

import msgspec
import pytest

from streams import fair


class Entry(msgspec.Struct, frozen=True):
    name: str
    cost: int = fair.QUANTUM // 4
    count: int = 1


def _take(queue: fair.FairQueue[str, Entry], count_max: int = 1) -> list[str]:
    _, entries = queue.take(count_max=count_max, cost_max=fair.QUANTUM * 100)
    return [entry.name for entry in entries]


def test_a_newcomer_does_not_wait_for_a_backlog() -> None:
    """A thousand of one tenant are before it, and it is served within a few turns."""
    queue: fair.FairQueue[str, Entry] = fair.FairQueue()
    for _ in range(1000):
        queue.push("busy", "t", Entry("busy"))
    for _ in range(100):
        _take(queue)
    queue.push("quiet", "t", Entry("quiet"))

    turns = [_take(queue)[0] for _ in range(10)]

    assert "quiet" in turns


def test_whoever_was_alone_owes_nothing() -> None:
    """What a tenant took while nobody else was there is not held against it later."""
    queue: fair.FairQueue[str, Entry] = fair.FairQueue()
    for _ in range(2000):
        queue.push("first", "t", Entry("first"))
    for _ in range(1000):
        _take(queue)
    for _ in range(1000):
        queue.push("second", "t", Entry("second"))

    shares = Counter(_take(queue)[0] for _ in range(400))

    assert shares["first"] == pytest.approx(200, abs=8)


def test_weights_are_kept() -> None:
    """Three to one, in cost, however large the single entries are."""
    queue: fair.FairQueue[str, Entry] = fair.FairQueue(lambda tenant: 3 if tenant == "a" else 1)
    for _ in range(2000):
        queue.push("a", "t", Entry("a", cost=1_000))
        queue.push("b", "t", Entry("b", cost=10_000))
    costs = {"a": 1_000, "b": 10_000}

    taken: Counter[str] = Counter()
    for _ in range(1500):
        name = _take(queue)[0]
        taken[name] += costs[name]

    assert taken["a"] / taken["b"] == pytest.approx(3, rel=0.2)


def test_tasks_of_a_tenant_take_turns() -> None:
    """A busy task of its own tenant does not keep a quiet one waiting either."""
    queue: fair.FairQueue[str, Entry] = fair.FairQueue()
    for number in range(100):
        queue.push("a", "busy", Entry(f"busy {number}"))
    queue.push("a", "quiet", Entry("quiet"))

    assert [_take(queue)[0] for _ in range(3)] == ["busy 0", "quiet", "busy 1"]


def test_entries_of_a_key_travel_together_within_the_bounds() -> None:
    """In their order, and at least one, however large it is."""
    queue: fair.FairQueue[str, Entry] = fair.FairQueue()
    for number in range(5):
        queue.push("a", "t", Entry(str(number)))
    assert _take(queue, count_max=3) == ["0", "1", "2"]
    key, entries = queue.take(count_max=10, cost_max=1)
    assert (key, [entry.name for entry in entries]) == ("t", ["3"])


def test_nothing_left_is_empty_and_costs_nothing() -> None:
    """Its truth and its cost follow what is in it."""
    queue: fair.FairQueue[str, Entry] = fair.FairQueue()
    queue.push("a", "t", Entry("x", cost=7))
    assert queue
    assert queue.cost == 7

    _take(queue)

    assert not queue
    assert queue.cost == 0
    with pytest.raises(LookupError):
        _take(queue)
