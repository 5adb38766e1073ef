"""A minute's memory."""

import pytest

from workers import rates


def test_a_rate_is_that_of_the_last_minute() -> None:
    """What is older is forgotten."""
    counted = rates.Rates()
    counted.add("a", 30, now=0.0)
    counted.add("a", 30, now=59.0)
    counted.add("b", 6, now=59.0)
    assert counted.per_s(59.5) == {"a": 1.0, "b": 0.1}
    assert counted.per_s(70.0) == {"a": 0.5, "b": 0.1}
    assert counted.per_s(200.0) == {}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many subjects strangers name; those that are known go on being counted."""
    monkeypatch.setattr(rates, "SUBJECTS_MAX", 3)
    counted = rates.Rates()
    for number in range(10):
        counted.add(f"s{number}", 6, now=0.0)
    counted.add("s0", 6, now=0.0)
    assert counted.per_s(0.0) == {"s0": 0.2, "s1": 0.1, "s2": 0.1}
