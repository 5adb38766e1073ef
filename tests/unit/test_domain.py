"""The host's check of values, on every side of each bound."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopai import domain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


def nested(depth, value=1):
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 2**53, -(2**53), 1.7e308, "", "🙂", [], {}, {"a": [{"b": None}]}, nested(64)],
)
def test_json_value_passes(value):
    assert domain.check(value) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**53 + 1, "/: integer beyond 2**53"),
        ({"a": [0, -(2**53) - 1]}, "/a/1: integer beyond 2**53"),
        (math.nan, "/: number is not finite"),
        ([math.inf], "/0: number is not finite"),
        ({1: 2}, "/: key 1 is not a string"),
        ("\ud800", "/: text has a lone surrogate"),
        ({"\udfff": 1}, "/: key: text has a lone surrogate"),
        ({"a": {1, 2}}, "/a: a set is not JSON"),
        (nested(65), "/0" * 64 + ": nested deeper than 64"),
        (nested(100_000), "/0" * 64 + ": nested deeper than 64"),
    ],
)
def test_other_value_is_refused_with_its_path(value, reason):
    assert str(domain.check(value)) == reason


@given(JSON)
def test_the_quick_look_agrees_with_the_thorough_one(value):
    """What is within the domain is exactly what nothing can be said against."""
    assert domain._are_within((value,), domain.DEPTH_MAX) == (domain._violation(value) is None)
