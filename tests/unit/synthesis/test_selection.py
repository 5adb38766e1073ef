import msgspec
import pytest

from loopai import errors
from loopai.synthesis import candidate, engine, selection
from tests.unit.synthesis import support

PAIRS = tuple((number, number % 2 == 0) for number in range(10))


def proposal(code):
    return candidate.Candidate(
        code=code,
        engine="test",
        strategy="manual",
        description="",
        seen=0,
        held_out=tuple(support.example(given, wanted) for given, wanted in PAIRS),
        tolerance=None,
    )


RIGHT = proposal("def run(input):\n    return input % 2 == 0\n")
RIGHT_LONGER = proposal("def run(input):\n    even = input % 2 == 0\n    return even\n")
CONSTANT = proposal("def run(input): return True")
REFUSED = proposal("import os\ndef run(input): return True")
FAILING = proposal("def run(input): return nothing")


async def test_the_most_accurate_candidate_wins():
    """Whatever the order they come in."""
    for candidates in ([CONSTANT, RIGHT], [RIGHT, CONSTANT, FAILING, REFUSED]):
        winner = await selection.best(candidates, support.run_in_subprocess)
        assert winner.candidate is RIGHT
        assert winner.judgement.evaluation.held_out_accuracy == 1.0


async def test_the_smaller_of_equals_wins():
    """Less to read is better."""
    winner = await selection.best([RIGHT_LONGER, RIGHT], support.run_in_subprocess)
    assert winner.candidate is RIGHT


async def test_complexity_carries_the_measured_latency():
    """What screening cannot know, the evaluation does."""
    winner = await selection.best([RIGHT], support.run_in_subprocess)
    assert winner.complexity.lines_of_code == 2
    assert winner.complexity.estimated_latency_ms == winner.judgement.estimated_latency_ms > 0


async def test_reasons_are_told_when_none_survives():
    """Screening and failing runs both count against a candidate."""
    with pytest.raises(engine.CannotGenerate) as caught:
        await selection.best([REFUSED, FAILING], support.run_in_subprocess)
    assert caught.value.code == "INVALID_PROGRAM"
    assert "line 1: imports os" in str(caught.value)
    assert "NameError" in str(caught.value)


async def test_no_candidates_cannot_be_chosen_from():
    """An engine that proposes nothing is told about too."""
    with pytest.raises(engine.CannotGenerate, match="proposed none"):
        await selection.best([], support.run_in_subprocess)


async def test_nothing_held_out_proves_nothing():
    """A candidate that nothing was held out for cannot win."""
    unproven = msgspec.structs.replace(RIGHT, held_out=())
    with pytest.raises(engine.CannotGenerate, match="nothing was held out"):
        await selection.best([unproven], support.run_in_subprocess)


def test_codes_come_from_the_one_table():
    """A code that callers cannot look up is a fault."""
    assert engine.CannotGenerate("TOO_FEW_EXAMPLES", "x").code in errors.CODES
    with pytest.raises(ValueError, match="unknown error code"):
        engine.CannotGenerate("NO_SUCH_CODE", "x")
