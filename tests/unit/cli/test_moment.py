from datetime import UTC, datetime, timedelta

import pytest

from loopai.cli import moment

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", NOW - timedelta(seconds=30)),
        ("10m", NOW - timedelta(minutes=10)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d", NOW - timedelta(days=1)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T10:00:00+02:00", datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_durations_count_back_and_times_without_a_zone_are_utc(text, expected):
    """Both forms give the same kind of moment."""
    assert moment.parse(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "10", "10 m", "-5m", "yesterday", "9999999d"])
def test_other_text_is_refused(text):
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="expected such as 30s"):
        moment.parse(text, NOW)


@pytest.mark.parametrize(
    "text", ["999999d", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_times_outside_the_calendar_are_refused(text):
    """No time that the bus could not be told."""
    with pytest.raises(ValueError, match="calendar"):
        moment.parse(text, NOW)


def test_an_end_lies_ahead():
    """`90d` from now; a date is the same either way."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert moment.parse("90d", now, ahead=True) == datetime(2026, 4, 1, tzinfo=UTC)
    assert moment.parse("2030-01-31", now, ahead=True) == datetime(2030, 1, 31, tzinfo=UTC)
