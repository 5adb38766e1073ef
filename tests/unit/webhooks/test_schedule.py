"""When a delivery is tried again."""

from datetime import UTC, datetime

import pytest

from loopai.webhooks import schedule

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_eleven_attempts_take_a_day():
    """The page says so."""
    planned = [schedule.delay_s(n, None, 0.5) for n in range(1, 11)]
    assert planned == list(schedule.DELAYS_S)
    assert 23 * 3600 < sum(schedule.DELAYS_S) < 25 * 3600
    assert schedule.delay_s(11, None, 0.5) is None
    assert schedule.delay_s(11, 60.0, 0.5) is None


def test_chance_moves_an_attempt_by_a_tenth():
    """What failed together does not come back together."""
    assert schedule.delay_s(3, None, 0.0) == pytest.approx(108)
    assert schedule.delay_s(3, None, 1.0) == pytest.approx(132)


def test_a_receiver_may_ask_for_later_but_not_for_sooner():
    """Up to the longest pause of ours."""
    assert schedule.delay_s(1, 60.0, 0.5) == 60.0
    assert schedule.delay_s(2, 1.0, 0.5) == 30.0
    assert schedule.delay_s(1, 10_000_000.0, 0.5) == schedule.RETRY_AFTER_S_MAX


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
        ("1e9", None),
        ("", None),
        ("Fri, 02 Jan 99999999999999999999 03:04:05 GMT", None),
        ("Fri, 02 Jan 2026 99999999999999999999:04:05 GMT", None),
        ("Fri, 02 Jan 2026 03:04:05 +99999999999999999999", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header, seconds):
    """Seconds and dates; anything else says nothing."""
    assert schedule.retry_after_s(header, NOW) == seconds
