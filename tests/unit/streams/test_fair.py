"""Start-time fair queuing: who is next, who gets how much, and who is never kept waiting."""

from collections import Counter

import pytest

from streams import fair

Queue = fair.FairQueue[str, str]


def _push(queue: Queue, tenant: str, number: int, *, task: str = "t", cost: float = 1) -> None:
    for _ in range(number):
        queue.push(tenant, f"{tenant}.{task}", f"{tenant}.{task}", cost)


def _taken(queue: Queue, number: int) -> Counter[str]:
    return Counter(queue.take() for _ in range(number))


def test_a_newcomer_does_not_wait_for_a_backlog() -> None:
    """A thousand of one tenant are before it, and it is served within two turns."""
    queue = Queue()
    _push(queue, "busy", 1000)
    _taken(queue, 100)
    _push(queue, "quiet", 1)

    assert "quiet.t" in _taken(queue, 2)


def test_shares_follow_weights_and_cost() -> None:
    """Twice the cost, half the turns. Thrice the weight, thrice the turns."""
    queue = Queue({"heavy": 3})
    _push(queue, "heavy", 1000, cost=10)
    _push(queue, "light", 1000, cost=10)
    _push(queue, "large", 1000, cost=20)

    assert _taken(queue, 900) == {"heavy.t": 600, "light.t": 200, "large.t": 100}


def test_tasks_of_a_tenant_share_what_is_its_own() -> None:
    """Many tasks are worth no more than one; small ones get more turns than large ones."""
    queue = Queue()
    _push(queue, "one", 1000)
    for number in range(10):
        _push(queue, "many", 100, task=f"{number}", cost=1 + number % 2)

    turns = _taken(queue, 300)

    costs = sum(turns[f"many.{number}"] * (1 + number % 2) for number in range(10))
    assert costs == pytest.approx(turns["one.t"], abs=2)
    assert turns["many.0"] > turns["many.1"]


def test_whoever_was_alone_owes_nothing() -> None:
    """What a tenant took while nobody else was there is not held against it later."""
    queue = Queue()
    _push(queue, "first", 2000)
    _taken(queue, 1000)
    _push(queue, "second", 1000)

    assert _taken(queue, 400)["first.t"] == pytest.approx(200, abs=1)


def test_whoever_comes_and_goes_pays_for_what_it_had() -> None:
    """Leaving after a costly turn and coming back does not forget it."""
    queue = Queue()
    _push(queue, "steady", 1000)
    turns: Counter[str] = Counter()
    for _ in range(200):
        if len(queue) == 1000 - turns["steady.t"]:
            _push(queue, "guest", 1, cost=20)
        turns.update(_taken(queue, 1))

    assert 8 <= turns["guest.t"] <= 12


def test_those_that_may_not_are_passed_over_and_keep_their_place() -> None:
    """A tenant at its limit waits; when it may again, it has lost nothing."""
    queue = Queue()
    _push(queue, "one", 1)
    _push(queue, "two", 1)

    def not_one(name: str) -> bool:
        return not name.startswith("one")

    assert queue.take(may=not_one) == "two.t"
    with pytest.raises(LookupError):
        queue.take(may=not_one)
    with pytest.raises(LookupError):
        queue.take(may_key=not_one)
    assert queue.take() == "one.t"
    assert not queue


def test_a_task_at_its_limit_does_not_hold_up_its_tenant() -> None:
    """The tenant's turn goes to another of its tasks."""
    queue = Queue()
    _push(queue, "one", 5, task="full")
    _push(queue, "one", 1, task="free")

    assert queue.take(may_key=lambda key: key != "one.full") == "one.free"


def test_nothing_waits_in_an_empty_queue() -> None:
    """Taking from it is an error, not a hang."""
    with pytest.raises(LookupError):
        Queue().take()


def test_memory_of_those_who_left_is_bounded() -> None:
    """Names that a stranger makes up do not stay."""
    queue = Queue()
    for number in range(5000):
        _push(queue, f"tenant{number}", 1)
        _taken(queue, 1)

    assert len(queue._tenants) <= fair.ABSENT_MAX + 1
    assert len(queue._clocks._absent) <= fair.ABSENT_MAX + 1


def test_memory_of_tasks_that_left_is_bounded() -> None:
    """So with what strangers call tasks, of each of the tenants that they make up."""
    queue = Queue()
    for tenant in range(20):
        for task in range(500):
            _push(queue, f"tenant{tenant}", 1, task=f"{task}")
            _taken(queue, 1)

    kept = sum(len(tenant.clocks._absent) for tenant in queue._tenants.values())
    assert kept <= 20 * (fair.ABSENT_KEYS_MAX + 1)
