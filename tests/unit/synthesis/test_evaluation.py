import msgspec
import pytest

from loopai.quality import wilson
from loopai.synthesis import candidate, evaluation
from tests.unit.synthesis import support


def proposal(code, pairs, tolerance=None):
    return candidate.Candidate(
        code=code,
        engine="test",
        strategy="manual",
        description="",
        seen=7,
        held_out=tuple(support.example(given, wanted) for given, wanted in pairs),
        tolerance=tolerance,
    )


async def judge(code, pairs, tolerance=None):
    return await evaluation.evaluate(proposal(code, pairs, tolerance), support.run_in_subprocess)


async def test_right_answers_give_accuracy_bound_and_class_table():
    """Three of four right: the table says for which class."""
    code = "def run(input): return 'big' if input > 3 else 'small'"
    said = await judge(code, [(1, "small"), (2, "small"), (5, "big"), (3, "big")])
    found = said.evaluation
    assert found.examples_seen == 7
    assert found.examples_held_out == 4
    assert found.held_out_accuracy == 0.75
    assert found.lower_bound == wilson.lower_bound(3, 4)
    table = {score.label: (score.precision, score.recall, score.support) for score in found.classes}
    assert table == {"big": (1.0, 0.5, 2), "small": (pytest.approx(2 / 3), 1.0, 2)}
    assert said.failures == ('3 gave "small" instead of "big"',)
    assert said.estimated_latency_ms > 0


async def test_errors_count_as_wrong_and_are_told():
    """A program that raises has not answered."""
    said = await judge("def run(input): return 1 / input", [(1, 1), (0, 1)])
    assert said.evaluation.held_out_accuracy == 0.5
    assert said.answered == 1
    assert said.failures == ("0 gave error: ZeroDivisionError: division by zero instead of 1",)


async def test_null_is_an_answer():
    """A program that returns nothing is right where null is expected."""
    said = await judge("def run(input): return None", [(1, None), (2, None), (3, 1)])
    assert said.evaluation.held_out_accuracy == pytest.approx(2 / 3)
    assert said.answered == 3


async def test_numbers_are_right_within_the_tolerance_and_have_no_classes():
    """The tolerance is the candidate's, and is reported."""
    said = await judge("def run(input): return input", [(1.0, 1.4), (1.0, 1.6)], tolerance=0.5)
    assert said.evaluation.held_out_accuracy == 0.5
    assert said.evaluation.tolerance == 0.5
    assert said.evaluation.classes == ()


async def test_equal_looking_classes_stay_apart():
    """The string "1" and the number 1 are two classes; 1 and 1.0 are one."""
    said = await judge(
        "def run(input): return input", [("1", "1"), (1, 1.0), (1.0, 1), (True, True)]
    )
    table = [(score.label, score.support) for score in said.evaluation.classes]
    assert table == [("1", 1), ("1", 2), ("true", 1)]
    assert said.evaluation.held_out_accuracy == 1.0


async def test_free_text_gets_no_class_table():
    """A table of hundreds of different outputs helps nobody."""
    count = evaluation.CLASSES_MAX + 1
    pairs = [(index, f"text {index}") for index in range(count)]
    said = await judge("def run(input): return f'text {input}'", pairs)
    assert said.evaluation.held_out_accuracy == 1.0
    assert said.evaluation.classes == ()


async def test_failures_are_few_and_short():
    """A megabyte of wrong answers is not a message."""
    pairs = [("x" * 5000, index) for index in range(50)]
    said = await judge("def run(input): return input", pairs)
    assert len(said.failures) == evaluation.FAILURES_MAX
    assert all(len(text) < 3 * evaluation.FAILURE_CHARACTERS_MAX for text in said.failures)


async def test_lost_runs_are_run_once_more():
    """A broken cell says nothing about the program."""
    calls = []

    async def breaking(code, inputs, timeout_ms):
        calls.append(len(inputs))
        done = await support.run_in_subprocess(code, inputs, timeout_ms)
        if len(calls) == 1:
            lost = support.Outcome(kind="lost", output=None, message="cell broke", run_ms=0.0)
            done = [done[0], *[lost] * (len(done) - 1)]
        return done

    pairs = [(index, index) for index in range(5)]
    said = await evaluation.evaluate(proposal("def run(input): return input", pairs), breaking)
    assert said.evaluation.held_out_accuracy == 1.0
    assert calls == [5, 4]


async def test_wrong_number_of_outcomes_is_a_fault():
    """A runner that breaks its contract must not be mistaken for a score."""

    async def short(code, inputs, timeout_ms):
        return (await support.run_in_subprocess(code, inputs, timeout_ms))[:-1]

    with pytest.raises(ValueError, match="2 inputs gave 1 outcomes"):
        await evaluation.evaluate(proposal("def run(input): return 1", [(1, 1), (2, 1)]), short)


async def test_output_that_is_no_json_is_no_answer():
    """The sandbox checks outputs; nobody relies on it."""

    async def garbling(code, inputs, timeout_ms):
        done = await support.run_in_subprocess(code, inputs, timeout_ms)
        return [msgspec.structs.replace(outcome, output=b"{not json") for outcome in done]

    said = await evaluation.evaluate(proposal("def run(input): return 1", [(1, 1)]), garbling)
    assert said.evaluation.held_out_accuracy == 0.0
    assert said.answered == 0
