"""Which lane, which tenant and which task has the next slot."""

from streams.messages import Lane
from workers import slots


def _slots(count: int, **limits: int) -> slots.Slots[str]:
    return slots.Slots(slots.Limits(slots=count, **limits))


def _push(
    queue: slots.Slots[str], lane: Lane, number: int, now: float, owner: str = "tenant.task"
) -> None:
    tenant, _ = owner.split(".")
    for n in range(number):
        turn = slots.Turn(lane=lane, tenant=tenant, task=owner, cost=1000, what=f"{lane}{n}")
        queue.push(turn, now)


def _take(queue: slots.Slots[str], now: float) -> list[slots.Turn[str]]:
    taken = []
    while turn := queue.take(now):
        taken.append(turn)
    return taken


def test_interactive_goes_first_whatever_came_first() -> None:
    """Bulk has waited, not for long."""
    queue = _slots(4)
    _push(queue, "bulk", 4, now=0.0)
    _push(queue, "interactive", 3, now=0.1)
    assert [turn.lane for turn in _take(queue, 0.1)] == ["interactive"] * 3 + ["bulk"]


def test_bulk_never_takes_the_last_slots() -> None:
    """Nothing interactive was about for a while: all but an eighth are bulk's."""
    queue = _slots(16)
    _push(queue, "bulk", 40, now=0.0)
    assert len(_take(queue, 10.0)) == 14
    _push(queue, "interactive", 3, now=10.0)
    assert [turn.lane for turn in _take(queue, 10.0)] == ["interactive"] * 2


def test_beside_interactive_work_bulk_gets_a_few_slots() -> None:
    """Until a second after the last of it has ended."""
    queue = _slots(32)
    _push(queue, "interactive", 1, now=0.0)
    _push(queue, "bulk", 40, now=0.0)
    first, *bulk = _take(queue, 0.0)
    assert (first.lane, len(bulk)) == ("interactive", 2)
    queue.release(first, 5.0)
    assert _take(queue, 5.0 + slots.INTERACTIVE_S - 0.01) == []
    assert len(_take(queue, 5.0 + slots.INTERACTIVE_S)) == 26


def test_bulk_is_not_starved() -> None:
    """While interactive work never ends, bulk has a turn each time that it waited long enough."""
    queue = _slots(1)
    _push(queue, "interactive", 1000, now=0.0)
    _push(queue, "bulk", 10, now=0.0)
    lanes = []
    for n in range(100):
        turn = queue.take(n * 0.01)
        assert turn is not None
        lanes.append(turn.lane)
        queue.release(turn, n * 0.01)
    assert lanes.count("bulk") == 3
    assert lanes.index("bulk") == 25


def test_one_slot_serves_both() -> None:
    """With a single slot nothing is kept from bulk."""
    queue = _slots(1)
    _push(queue, "bulk", 1, now=0.0)
    assert len(_take(queue, 0.0)) == 1
    assert [slots.reserved(count) for count in (1, 2, 15, 16, 32)] == [0, 1, 1, 2, 4]


def test_a_tenant_at_its_limit_leaves_slots_to_others() -> None:
    """It goes on when one of its own has ended."""
    queue = _slots(8, tenant_running_max=2)
    _push(queue, "interactive", 5, now=0.0, owner="one.a")
    _push(queue, "interactive", 1, now=0.0, owner="two.a")
    taken = _take(queue, 0.0)
    assert sorted(turn.tenant for turn in taken) == ["one", "one", "two"]
    queue.release(next(turn for turn in taken if turn.tenant == "one"), 0.0)
    assert [turn.tenant for turn in _take(queue, 0.0)] == ["one"]
    assert len(queue) == 2


def test_a_task_at_its_limit_leaves_slots_to_others() -> None:
    """Of the same tenant, too."""
    queue = _slots(8, task_running_max=2)
    _push(queue, "interactive", 5, now=0.0, owner="one.a")
    _push(queue, "interactive", 1, now=0.0, owner="one.b")
    assert sorted(turn.task for turn in _take(queue, 0.0)) == ["one.a", "one.a", "one.b"]


def test_weights_give_shares() -> None:
    """Three slots to one, where both have more than enough."""
    queue: slots.Slots[str] = slots.Slots(slots.Limits(slots=8, weights={"one": 3}))
    _push(queue, "interactive", 20, now=0.0, owner="one.a")
    _push(queue, "interactive", 20, now=0.0, owner="two.a")
    assert sorted(turn.tenant for turn in _take(queue, 0.0)) == ["one"] * 6 + ["two"] * 2
