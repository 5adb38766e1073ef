"""Lines are the same however the bytes of a body are cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from loopai.ingress import ndjson

LIMIT = 20
TEXT = st.lists(st.sampled_from([b"a", b"{}", b" ", b"\r", b"\n", b"\n\n", b"x" * LIMIT])).map(
    b"".join
)


def cut(text: bytes, ends: list[int]) -> list[tuple[int, bytes | ndjson.TooLong]]:
    """The lines of *text* that comes in pieces, of which *ends* says where they end."""
    lines = ndjson.Lines(LIMIT)
    places = [0, *sorted(min(end, len(text)) for end in ends), len(text)]
    found = [
        line for begin, end in itertools.pairwise(places) for line in lines.feed(text[begin:end])
    ]
    return [*found, *lines.rest()]


@given(TEXT, st.lists(st.integers(0, 200)))
def test_pieces_of_any_size_give_the_same_lines(text: bytes, ends: list[int]) -> None:
    """Numbers count every line; blank ones are left out, and those over the limit not kept."""
    assert cut(text, ends) == [
        (number, line if len(line) <= LIMIT else ndjson.TOO_LONG)
        for number, line in enumerate(text.split(b"\n"), start=1)
        if len(line) > LIMIT or line.strip()
    ]


def test_no_more_than_the_limit_is_kept_of_a_line() -> None:
    """A line without an end costs nothing, however long it comes."""
    lines = ndjson.Lines(LIMIT)
    for _ in range(1000):
        assert list(lines.feed(b"x" * 7)) == []
        assert sum(map(len, lines._begun)) <= LIMIT
    assert list(lines.feed(b"\nnext\n")) == [(1, ndjson.TOO_LONG), (2, b"next")]
