"""When a request is sent again: exponential backoff with full jitter, within a deadline."""

import email.utils
import random
import time
from datetime import UTC, datetime
from typing import Final

from loopai_client import errors

RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})
RETRIED_CODE: Final = "IDEMPOTENCY_KEY_IN_USE"
"""A 409: the request before, with the same key, has not ended yet."""
FINAL_CODE: Final = "DEADLINE_PASSED"
"""A 504: the caller's own `timeout_ms` is over, and asking again would outlast it."""
FIRST_S: Final = 0.25
LONGEST_S: Final = 8.0
"""The first pause, and the longest, are chosen between nothing and these."""


class Attempts:
    """The attempts at one request; ask `pause_s` after each failure."""

    def __init__(self, retries_max: int, deadline_s: float) -> None:
        self._retries_max = retries_max
        self._made = 0
        self.ends = time.monotonic() + deadline_s

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline. DeadlineExceeded when there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise errors.DeadlineExceeded("no answer before the deadline")
        return left

    def pause_s(self, error: errors.LoopaiError) -> float:
        """How long to wait before the next attempt; raises *error* where there is none."""
        if isinstance(error, errors.ConnectionFailed) and time.monotonic() >= self.ends:
            raise errors.DeadlineExceeded(f"no answer before the deadline: {error}") from error
        if self._made >= self._retries_max or not _may_pass(error):
            raise error
        pause = random.uniform(0, min(LONGEST_S, FIRST_S * 2**self._made))  # noqa: S311 (jitter)
        if isinstance(error, errors.ApiError) and error.retry_after_s is not None:
            pause += error.retry_after_s
        if time.monotonic() + pause >= self.ends:
            raise error
        self._made += 1
        return pause

    def progressed(self) -> None:
        """Something came: what fails now fails for the first time."""
        self._made = 0


def _may_pass(error: errors.LoopaiError) -> bool:
    if isinstance(error, errors.ApiError):
        retried = error.status in RETRIED_STATUSES or error.code == RETRIED_CODE
        return retried and error.code != FINAL_CODE
    return isinstance(error, errors.ConnectionFailed)


def retry_after_s(header: str | None) -> float | None:
    """Seconds in a `Retry-After` header, which may have a date (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        at = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
