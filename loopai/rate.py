"""A rate, such as 1000/second, and what is left of it: a sliding window. Pure.

What the period before took counts by the share of it that the last `period_s` seconds still hold
(the counters that Cloudflare described in 2017, and `limits` keeps in Redis): two numbers for each
caller, and no burst of twice the rate across the edge of two periods.
"""

import math
import re
from typing import Final, NamedTuple

PERIODS_S: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
AMOUNT_MAX: Final = 10**9
_RATE: Final = re.compile(rf"([1-9][0-9]{{0,9}})/({'|'.join(PERIODS_S)})")


class Rate(NamedTuple):
    amount: int
    period_s: int


class Count(NamedTuple):
    """What was taken of a rate, as of a moment."""

    previous: int
    """In the period before."""
    current: int
    left_s: float
    """Until the current period ends."""


def parse(text: str) -> Rate:
    """The rate that *text* says, such as `1000/second`. ValueError says what it must look like."""
    found = _RATE.fullmatch(text)
    if found is None or int(found[1]) > AMOUNT_MAX:
        raise ValueError(
            f"expected NUMBER/second, /minute, /hour or /day, such as 1000/second, of {AMOUNT_MAX} "
            "at most"
        )
    return Rate(int(found[1]), PERIODS_S[found[2]])


def remaining(rate: Rate, count: Count) -> int:
    """What may be taken at once."""
    aged = int(count.previous * count.left_s / rate.period_s)
    return max(0, rate.amount - aged - count.current)


def retry_after_s(rate: Rate, count: Count, cost: int) -> int:
    """Whole seconds after which *cost* may be taken, if nobody takes any meanwhile.

    A cost that is larger than the rate never may; then it is when the rate is whole again.
    """
    free = max(0, rate.amount - cost)
    if count.current <= free and count.previous:
        held_s = (free - count.current + 1) * rate.period_s / count.previous
        wait_s = count.left_s - held_s
    else:
        # Not in this period: what it took is the one before by then.
        held_s = (free + 1) * rate.period_s / max(1, count.current)
        wait_s = count.left_s + max(0.0, rate.period_s - held_s)
    # Not rounded up: at the very moment it is still too much.
    return math.floor(max(0.0, wait_s)) + 1


class Window:
    """What one caller took of *rate*, in this process. Times are in seconds, of one clock."""

    __slots__ = ("_current", "_period", "_previous", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._period = 0
        """Number of the current period since the clock's zero."""
        self._previous = 0
        self._current = 0

    def take(self, now: float, cost: int) -> bool:
        """Take *cost* at *now*, or nothing and False."""
        if remaining(self._rate, self.count(now)) < cost:
            return False
        self._current += cost
        return True

    def count(self, now: float) -> Count:
        period, into_s = divmod(now, self._rate.period_s)
        # A clock that is set back goes on counting for the period that was.
        if period > self._period:
            self._previous = self._current if period == self._period + 1 else 0
            self._current = 0
            self._period = int(period)
        return Count(self._previous, self._current, self._rate.period_s - into_s)

    def is_over(self, now: float) -> bool:
        """Whether it holds nothing that counts any more."""
        return self.count(now)[:2] == (0, 0)
