"""What a run in a cell means for its caller."""

from loopai.catalog import schemas
from loopai.sandbox import outcome
from streams.messages import ExecutionError
from workers import verdict

TEXT = schemas.compiled(b'{"type": "string"}')


def test_a_failed_run_tells_its_kind_its_line_and_its_traceback() -> None:
    """What the cell knows of a failure reaches the record, unabridged."""
    ended = outcome.Outcome(
        kind="error", error_type="ValueError", message="line 2: no", line=2, traceback="line 2\n"
    )

    judged = verdict.judge(ended, TEXT)

    assert judged.status == "error"
    assert judged.error == ExecutionError(
        type="ValueError", message="line 2: no", outcome="error", line=2, traceback="line 2\n"
    )


def test_every_kind_of_failure_is_told_by_its_name() -> None:
    """A caller can tell apart what the sandbox tells apart."""
    for kind in ("timeout", "out_of_memory", "output_too_large", "invalid_result", "killed"):
        judged = verdict.judge(outcome.Outcome(kind=kind, error_type=kind), TEXT)

        assert judged.error is not None
        assert (judged.error.type, judged.error.outcome) == (kind, kind)
        assert judged.status == ("timeout" if kind == "timeout" else "error")


def test_an_output_that_does_not_fit_its_schema_is_an_invalid_result() -> None:
    """The cell let it pass: it is JSON. The task does not."""
    judged = verdict.judge(outcome.Outcome(kind="success", output=b"7"), TEXT)

    assert judged.error is not None
    assert (judged.error.type, judged.error.outcome) == ("invalid_output", "invalid_result")


def test_success_has_no_error() -> None:
    """Nothing but the output is told."""
    judged = verdict.judge(outcome.Outcome(kind="success", output=b'"a"'), TEXT)

    assert (judged.status, judged.error, judged.output) == ("success", None, b'"a"')
