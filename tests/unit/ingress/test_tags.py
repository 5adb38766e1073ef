"""What an If-None-Match names."""

import pytest

from loopai.ingress import tags

TAG = '"abc"'


@pytest.mark.parametrize(
    "lines",
    [
        ['"abc"'],
        ['W/"abc"'],
        ["*"],
        [" * "],
        ['"x", "abc"'],
        ['"x" , W/"abc"\t'],
        [',, "x",,"abc",'],
        ['"x"', '"abc"'],
        ['"a,b","abc"'],
        ['"", "ä", "abc"'],
    ],
)
def test_a_tag_is_found_in_any_list(lines: list[str]) -> None:
    """Weak or strong, alone or among others, in one line or several."""
    assert tags.names(lines, TAG)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        [","],
        ["abc"],
        ['"abcd"'],
        ['"xabc"'],
        ['w/"abc"'],
        ['"x""abc"'],
        ['"x" "abc"'],
        ['"x", "abc'],
        ['"a "abc"'],
        ['"abc";q=1'],
        ['*, "abc"'],
        ["**"],
    ],
)
def test_other_tags_and_what_is_no_list_name_nothing(lines: list[str]) -> None:
    """A tag that contains the text is another tag."""
    assert not tags.names(lines, TAG)


def test_a_long_header_is_read_in_linear_time() -> None:
    """As long as a server takes, of what makes careless expressions try every way."""
    for piece in ('"x",', ", ", '"x" ', ",\t ", '"'):
        assert not tags.names([piece * (65_536 // len(piece)) + "!"], TAG)
