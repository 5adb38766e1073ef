"""How many may be inside, and when the others come again."""

import pytest

from workers import gate


def test_as_many_as_may_are_let_in():
    """One more is told to wait; when one has left, the next one is let in."""
    door = gate.Gate(2)
    assert [door.enter("a", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert door.enter("a", 0.0) > 0
    door.leave("a", 1.0)
    assert door.enter("a", 0.0) == 0.0


def test_names_do_not_hinder_each_other():
    """A slow endpoint fills its own places only."""
    door = gate.Gate(1)
    assert door.enter("slow", 0.0) == 0.0
    assert door.enter("fast", 0.0) == 0.0


def test_those_who_wait_are_told_different_times():
    """As in a queue: at a mean of a second and two at a time, each half a second later."""
    door = gate.Gate(2)
    for _ in range(100):
        door.enter("a", 0.0)
        door.enter("a", 0.0)
        door.leave("a", 1.0)
        door.leave("a", 1.0)
    door.enter("a", 0.0)
    door.enter("a", 0.0)
    door.leave("a", 1.0)
    door.enter("a", 0.0)
    told = [door.enter("a", 0.0) for _ in range(500)]
    assert told == sorted(told)
    assert told[0] < told[10] < told[20]
    assert told[-1] == gate.WAIT_S_MOST


def test_who_has_left_leaves_nothing_behind():
    """Names of endpoints come and go."""
    door = gate.Gate(1)
    for number in range(1000):
        door.enter(str(number), 0.0)
        door.leave(str(number), 0.1)
    assert not door._doors


def test_leaving_twice_is_a_mistake():
    """The count cannot go below nothing unseen."""
    door = gate.Gate(1)
    door.enter("a", 0.0)
    door.leave("a", 0.1)
    with pytest.raises(KeyError):
        door.leave("a", 0.1)
