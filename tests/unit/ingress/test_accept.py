"""What a request would rather have, by its `Accept`."""

import pytest
from starlette.requests import Request

from loopai.ingress import accept, events

WISHES = {
    "text/event-stream": True,
    "Text/Event-Stream": True,
    "text/event-stream; q=0.5": True,
    "application/json, text/event-stream": True,
    "text/event-stream, */*;q=0.1": True,
    "text/event-stream;q=0": False,
    "text/event-stream; q=0.000": False,
    "text/event-stream;q=0.5, application/json": False,
    "application/x-ndjson;q=0.9, text/event-stream;q=0.8": False,
    "text/*": False,
    "*/*": False,
    "application/json": False,
    "text/event-streams": False,
    "": False,
}


@pytest.mark.parametrize(("accepted", "wanted"), WISHES.items(), ids=WISHES)
def test_events_are_for_who_names_them_and_wants_nothing_rather(
    accepted: str, wanted: bool
) -> None:
    """q=0 says no, a wildcard nothing, and of two the better one is given."""
    request = Request({"type": "http", "headers": [(b"accept", accepted.encode())]})
    assert events.wanted(request) == wanted


def test_lines_of_accept_are_one_list() -> None:
    """RFC 9110, 5.3: a header that comes twice is as if it had a comma."""
    headers = [(b"accept", b"application/json;q=0.1"), (b"accept", b"text/event-stream")]
    assert events.wanted(Request({"type": "http", "headers": headers}))


def test_the_most_specific_range_counts() -> None:
    """Whatever its place, and though it gives less."""
    accepted = "*/*;q=0.1, text/*;q=0.5, text/html;q=0.2"
    found = [accept.quality(accepted, each) for each in ("text/html", "text/plain", "image/png")]
    assert found == [0.2, 0.5, 0.1]
    assert accept.quality("nonsense, /, a", "text/html") == 0
