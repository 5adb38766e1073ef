import hypothesis
import pytest
from hypothesis import strategies as st

from loopai.quality import wilson


@pytest.mark.parametrize(
    ("right", "total", "bound"),
    [(0, 0, 0.0), (0, 10, 0.0), (10, 10, 0.7225), (81, 263, 0.2553), (95, 100, 0.8882)],
)
def test_published_values_come_out(right, total, bound):
    """81 of 263 is Wilson's interval as Newcombe (1998) tabulates it."""
    assert wilson.lower_bound(right, total) == pytest.approx(bound, abs=5e-4)


@hypothesis.given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_bound_lies_below_the_share_and_above_zero(right, wrong):
    """Whatever was counted, the bound is a share and no better than what was seen."""
    total = right + wrong
    bound = wilson.lower_bound(right, total)
    assert 0.0 <= bound <= (right / total if total else 0.0) + 1e-12


def test_more_evidence_raises_the_bound():
    """The same share of more examples is surer."""
    assert wilson.lower_bound(90, 100) < wilson.lower_bound(900, 1000)


def test_impossible_counts_are_refused():
    """More right than total is a fault of the caller."""
    with pytest.raises(ValueError, match="11 of 10"):
        wilson.lower_bound(11, 10)
