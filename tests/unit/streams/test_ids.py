"""UUIDv7s that tell their time."""

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import ids

LAST_MS = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000)


@given(st.integers(0, LAST_MS), st.binary(min_size=10, max_size=10))
def test_an_id_tells_when_it_was_minted(unix_ms: int, randomness: bytes) -> None:
    """The time that goes in comes out, and it is a UUIDv7 to every other library."""
    identifier = ids.at(unix_ms, randomness)

    assert ids.minted_ms(identifier) == unix_ms
    assert ids.is_id(identifier)
    assert uuid.UUID(identifier).variant == uuid.RFC_4122
    assert uuid.UUID(identifier).version == 7


def test_ids_of_later_times_sort_later() -> None:
    """Text order is time order."""
    assert ids.at(1_000, b"\xff" * 10) < ids.at(1_001, b"\x00" * 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "00000000-0000-0000-0000-000000000000",
        "12cdbc1c-98a0-4dee-8292-c1eb91aa5c87",
        "01A2097E-5389-7056-93B9-88524790BD09",
        "{01a2097e-5389-72e9-85aa-92d701a3ff12}",
    ],
)
def test_anything_else_is_no_id(text: str) -> None:
    """Other UUIDs, other spellings and other texts cannot be looked up by time."""
    assert not ids.is_id(text)


def test_several_are_ids_of_their_time_and_all_different() -> None:
    """What is minted at once looks as if it were minted one by one."""
    minted = ids.several(1_700_000_000_123, 1000)
    assert len(set(minted)) == 1000
    assert all(ids.is_id(each) for each in minted)
    assert {ids.minted_ms(each) for each in minted} == {1_700_000_000_123}
    assert {each[19] for each in minted} == set("89ab")
