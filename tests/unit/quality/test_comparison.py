import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from loopai.quality import comparison

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@hypothesis.given(JSON)
def test_a_value_matches_itself_after_a_trip_through_json(value):
    """Encoding and decoding must not make an answer wrong."""
    again = msgspec.json.decode(msgspec.json.encode(value))
    assert comparison.matches(value, again, None)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [(1, 1.0), ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}), ([], []), (None, None), (-0.0, 0)],
)
def test_equal_json_values_match(expected, actual):
    """JSON has one kind of number, and no order of keys."""
    assert comparison.matches(expected, actual, None)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (1, True),
        (False, 0),
        (None, False),
        ("1", 1),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 1, "b": None}),
        ({}, []),
        (0.1 + 0.2, 0.3),
        ("a", "A"),
    ],
)
def test_different_json_values_do_not_match(expected, actual):
    """Nothing is converted for the sake of a match."""
    assert not comparison.matches(expected, actual, None)
    assert not comparison.matches(actual, expected, None)


def test_tolerance_applies_to_numbers_at_any_depth():
    """The ends of the tolerance count as right, and booleans are no numbers."""
    assert comparison.matches({"a": [0.3]}, {"a": [0.2]}, 0.1)
    assert not comparison.matches(0.3, 0.19, 0.1)
    assert not comparison.matches(True, 1, 0.5)
    assert not comparison.matches("1", "2", 5.0)


def test_deep_and_huge_values_are_compared_without_a_crash():
    """Outputs come from programs, which may return anything."""
    deep: object = 0
    for _ in range(100_000):
        deep = [deep]
    other: object = 1
    for _ in range(100_000):
        other = [other]
    assert comparison.matches(deep, deep, None)
    assert not comparison.matches(deep, other, None)
    assert not comparison.matches(10**400, 0.5, 0.1)
