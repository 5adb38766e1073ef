"""Whether to ask somebody who has failed lately: a circuit breaker. Pure."""

# Those on PyPI bring more than this has lines: registries of circuits and storage for them
# (purgatory), Tornado for coroutines (pybreaker), or no release since 2021 (aiobreaker).

from typing import Final

FAILURES_MAX: Final = 5
"""In a row; then nobody asks …"""
OPEN_S: Final = 5.0
"""… for so long. A Redis that restarts is back sooner, and a lost call costs 0.3 s at most."""


class Breaker:
    """Ask `admits` before a call, and say afterwards how it went. Times never decrease."""

    def __init__(self) -> None:
        self._failures = 0
        self._asks_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._asks_at is not None

    def admits(self, now: float) -> bool:
        """Whether to call now; while it is open, one trial each `OPEN_S`."""
        if self._asks_at is None:
            return True
        if now < self._asks_at:
            return False
        # A trial that is never heard of again holds nobody up: the next one comes in its turn.
        self._asks_at = now + OPEN_S
        return True

    def succeeded(self) -> bool:
        """A call went well; whether that closed it."""
        closed, self._asks_at = self.is_open, None
        self._failures = 0
        return closed

    def failed(self, now: float) -> bool:
        """A call did not; whether that opened it."""
        self._failures += 1
        return self._failures >= FAILURES_MAX and self.open(now)

    def open(self, now: float) -> bool:
        """Call nobody for a while; whether that is new."""
        opened, self._asks_at = not self.is_open, now + OPEN_S
        return opened
