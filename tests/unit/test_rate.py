"""The arithmetic of rates: edges of periods, what is left, and when to come again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopai import rate

TEN = rate.Rate(10, 60)
AT = 1_000_020.0
"""A moment at which a minute begins."""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1000/second", rate.Rate(1000, 1)),
        ("1/minute", rate.Rate(1, 60)),
        ("5/hour", rate.Rate(5, 3600)),
        ("1000000000/day", rate.Rate(10**9, 86_400)),
    ],
)
def test_a_rate_is_read(text, wanted):
    """A number and a period."""
    assert rate.parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "1000", "0/second", "-1/second", "1/week", "1 / second", "1.5/second", "1/second;2/day",
     "1000000001/day", "٣/second"],
)  # fmt: skip
def test_what_is_no_rate_is_refused(text):
    """The message shows one."""
    with pytest.raises(ValueError, match="1000/second"):
        rate.parse(text)


def test_as_much_as_the_rate_is_taken_and_not_one_more():
    """Ten of ten; the eleventh takes nothing."""
    window = rate.Window(TEN)
    assert [window.take(AT, 1) for _ in range(11)] == [True] * 10 + [False]
    assert rate.remaining(TEN, window.count(AT)) == 0


def test_what_does_not_fit_takes_nothing():
    """A batch of eleven leaves all ten to others."""
    window = rate.Window(TEN)
    assert not window.take(AT, 11)
    assert window.take(AT, 10)


def test_the_edge_of_a_period_gives_nothing_back_at_once():
    """Ten at the end of a minute leave none for the beginning of the next."""
    window = rate.Window(TEN)
    assert window.take(AT + 59.9, 10)
    assert not window.take(AT + 60, 1)
    assert window.take(AT + 60.1, 1)
    assert rate.remaining(TEN, window.count(AT + 90)) == 4
    assert rate.remaining(TEN, window.count(AT + 119.9)) == 9


def test_two_periods_later_all_is_forgotten():
    """Also after a pause of many."""
    window = rate.Window(TEN)
    window.take(AT, 10)
    assert not window.is_over(AT + 119)
    assert window.is_over(AT + 120)
    window.take(AT + 120, 10)
    assert window.take(AT + 6_000, 10)


def test_a_clock_that_is_set_back_gives_nothing():
    """What was taken stays taken."""
    window = rate.Window(TEN)
    assert window.take(AT + 60, 10)
    assert not window.take(AT, 1)


@given(
    taken=st.lists(st.tuples(st.floats(0, 300), st.integers(1, 12)), max_size=30),
    cost=st.integers(1, 10),
)
def test_who_comes_again_when_told_is_let_in(taken, cost):
    """Retry-After is long enough, and not longer than it must be by more than a second."""
    window = rate.Window(TEN)
    now = AT
    for at, amount in sorted(taken):
        now = AT + at
        window.take(now, amount)
    count = window.count(now)
    if rate.remaining(TEN, count) >= cost:
        return
    after_s = rate.retry_after_s(TEN, count, cost)
    if after_s > 1:
        assert rate.remaining(TEN, window.count(now + after_s - 1.001)) < cost
    assert window.take(now + after_s, cost)


def test_a_cost_above_the_rate_is_told_when_the_rate_is_whole():
    """It never fits; the number stays finite."""
    window = rate.Window(TEN)
    window.take(AT, 10)
    assert rate.retry_after_s(TEN, window.count(AT), 11) <= 121
