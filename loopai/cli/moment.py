"""Points in time as people type them: `10m` for ten minutes away, or an ISO 8601 date and time."""

import re
from datetime import UTC, datetime, timedelta

_AWAY = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse(text: str, now: datetime, *, ahead: bool = False) -> datetime:
    """The moment that *text* means at *now*, with a time zone. ValueError when it means none.

    `10m` is ten minutes ago, or *ahead*.
    """
    try:
        if away := _AWAY.fullmatch(text):
            length = timedelta(**{_UNITS[away[2]]: int(away[1])})
            return now + length if ahead else now - length
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the calendar ends before that") from error
    except ValueError as error:
        said = "expected such as 30s, 10m, 2h, 1d, or 2026-11-23T08:00:00Z"
        raise ValueError(said) from error
