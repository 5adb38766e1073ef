"""When a delivery that failed is tried again: rules without a clock."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

DELAYS_S: Final = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800)
"""Before the second attempt, the third, and so on: eleven attempts within a day."""
JITTER: Final = 0.1
"""Up to this share more or less, so that what failed together does not come back together."""
RETRY_AFTER_S_MAX: Final = 28_800
"""Who asks for a longer pause than the longest of ours gets that one."""


def delay_s(
    attempt: int,
    retry_after_s: float | None,
    chance: float,
    delays_s: Sequence[float] = DELAYS_S,
) -> float | None:
    """How long after failed *attempt*, counted from 1, the next one is; None: there is none.

    *chance*, from 0 to 1, places it within the jitter. A receiver may ask for later only.
    """
    if attempt > len(delays_s):
        return None
    planned = delays_s[attempt - 1] * (1 + JITTER * (2 * chance - 1))
    return max(planned, min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for (RFC 9110, 10.2.3); None where it says nothing."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal() and len(text) <= len(str(RETRY_AFTER_S_MAX)) + 3:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # The latter of a number that is too large: the receiver may write what it likes.
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now) / timedelta(seconds=1))
