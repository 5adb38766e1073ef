"""What a run in a cell means for its caller."""

from datetime import UTC, datetime

from loopai.catalog import schemas
from loopai.sandbox import outcome
from streams import ids
from streams.messages import ExecuteBatch, ExecuteItem, ExecutionError, TaskHead
from workers import verdict

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
TASK = TaskHead(id=ids.new(), tenant="default", name="upper", created_at=WHEN, updated_at=WHEN)
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


def test_a_run_that_was_called_back_is_cancelled_not_failed() -> None:
    """Nothing is wrong with the program: somebody wanted its end."""
    judged = verdict.judge(outcome.Outcome(kind="cancelled", error_type="cancelled"), TEXT)

    assert judged.status == "cancelled"
    assert judged.error == ExecutionError(type="cancelled", message="", outcome="cancelled")


def test_what_is_cancelled_is_not_run_even_where_it_would_be_too_late() -> None:
    """Whoever asked for its end reads that it was granted; its neighbours are not concerned."""
    first, second = (ExecuteItem(id=ids.new(), input=b"1", deadline_ms=10) for _ in range(2))
    order = verdict.Order(
        tenant="default",
        task="upper",
        batch=ExecuteBatch(items=(first, second), validated=True),
        attempt=1,
    )
    cancelled = {first.id}

    for now_ms in (0, 20):
        assert verdict.admit(order, TASK, first, now_ms, cancelled) is verdict.NEVER_RAN
    assert verdict.admit(order, TASK, second, 0, cancelled) is None
    late = verdict.admit(order, TASK, second, 20, cancelled)
    assert late is not None
    assert late.status == "timeout"


def test_an_output_that_does_not_fit_its_schema_is_an_invalid_result() -> None:
    """The cell let it pass: it is JSON. The task does not."""
    judged = verdict.judge(outcome.Outcome(kind="success", output=b"7"), TEXT)

    assert judged.error is not None
    assert (judged.error.type, judged.error.outcome) == ("invalid_output", "invalid_result")


def test_success_has_no_error() -> None:
    """Nothing but the output is told."""
    judged = verdict.judge(outcome.Outcome(kind="success", output=b'"a"'), TEXT)

    assert (judged.status, judged.error, judged.output) == ("success", None, b'"a"')
