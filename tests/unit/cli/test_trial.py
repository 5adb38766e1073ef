import msgspec
import pytest

from loopai.cli import api, trial
from loopai.cli.labelled import Row


def result(output, status="success"):
    raw = msgspec.Raw(msgspec.json.encode(output))
    return api.BatchResult(id="0", execution_id="x", status=status, output=raw)


@pytest.mark.parametrize(
    ("expected", "given", "tolerance", "right"),
    [
        ("a", result("a"), None, True),
        ("a", result("b"), None, False),
        (3, result(3), None, True),
        ("a", result(None, "error"), None, False),
        (1.0, result(1.5), 0.5, True),
        (1.0, result(1.6), 0.5, False),
        (1.0, result("1"), 0.5, False),
    ],
)
def test_right_means_equal_or_within_the_tolerance(expected, given, tolerance, right):
    """A failed execution and an answer of another type are wrong."""
    assert trial.is_right(expected, given, tolerance) is right


def test_accuracy_is_the_share_of_right_answers():
    """Rows and results are compared pair by pair."""
    rows = [Row(input=msgspec.Raw(b"{}"), output=each) for each in "abcd"]
    results = [result(each) for each in "abxx"]
    assert trial.accuracy(rows, results, None) == 0.5


def test_percentiles():
    """The ends and the middle of a known list, and of one value."""
    assert trial.percentile([float(each) for each in range(101)], 99) == 99
    assert trial.percentile([3.0, 1.0, 2.0], 50) == 2
    assert trial.percentile([7.0], 99) == 7
