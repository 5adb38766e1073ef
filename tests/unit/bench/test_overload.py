"""How an overload becomes a table, and what of it must not be."""

import msgspec
import pytest

from bench import offered, overload

LOAD = offered.Load(
    due=2_000,
    sent=2_000,
    answered=950,
    refused=1_050,
    answered_by_slice=[80] * offered.SLICES,
    refused_by_slice=[85] * offered.SLICES,
)


def step(name: str, answered: float) -> overload.Step:
    return overload.Step(
        name=name,
        offered=2_000,
        answered=answered,
        refused=0,
        p50_s=0.01,
        p99_s=0.02,
        client_cpu=0.25,
    )


def found(answered: float = 95, recorded: int = 950, **changed: int) -> overload.Found:
    return overload.Found(
        steps=[step("peak", 100), step("once", 99), step("twice", answered), step("again", 96)],
        load=msgspec.structs.replace(LOAD, **changed),
        seconds=10,
        recorded=recorded,
        waiting=0,
        dead=0,
    )


def test_the_overload_has_the_target_and_the_notes_say_what_became_of_all() -> None:
    """The other loads are there to compare with."""
    shown = overload.tabulate(found())
    assert [row.get("holds", "") for row in shown.rows] == ["", "", "yes", ""]
    assert str(shown.rows[2]["times peak"]) == "0.97"
    assert "950 answers, 1,050 refusals with Retry-After, 0 without" in shown.notes[0]
    assert shown.notes[1].startswith("950 executions of it are in RECORDS, 0 messages")
    assert shown.failures == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (found(answered=80), "0.82 times the peak, target ≥ 0.9"),
        (found(bare=1), "1 requests were neither answered nor refused with Retry-After"),
        (found(other=1), "1 requests were neither"),
        (found(recorded=949), "1 answers have no record"),
        (found(recorded=952, unsure=1), "1 executions were recorded that callers were refused"),
        (msgspec.structs.replace(found(), waiting=3), "3 messages were left in EXECUTE, 0 in DEAD"),
        (msgspec.structs.replace(found(), dead=2), "0 messages were left in EXECUTE, 2 in DEAD"),
    ],
)
def test_what_must_not_be_is_a_failure(wrong: overload.Found, said: str) -> None:
    """Each by itself, in one sentence."""
    (failure,) = overload.tabulate(wrong).failures
    assert said in failure


def test_an_execution_whose_caller_was_told_nothing_may_have_run() -> None:
    """It is recorded all the same, and nobody could know."""
    assert overload.tabulate(found(recorded=951, unsure=1)).failures == []


def test_every_panel_has_a_value_for_each_group() -> None:
    """What draws them relies on it; the course is in requests a second."""
    loads, course = overload.tabulate(found()).panels
    for panel in (loads, course):
        assert {len(series.values) for series in panel.series} == {len(panel.groups)}
    assert course.groups[-1] == "10"
    assert course.series[0].values[0] == pytest.approx(96)


def test_an_answer_is_whole_with_its_last_byte() -> None:
    """It may come in pieces, cut anywhere."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    assert offered.is_whole(answer)
    assert not any(offered.is_whole(answer[:end]) for end in range(len(answer)))
