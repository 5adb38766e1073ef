"""What a run in a cell means for its caller."""

from datetime import UTC, datetime
from typing import Any

from loopai.catalog import schemas
from loopai.sandbox import outcome
from streams import ids
from streams.messages import ExecuteBatch, ExecuteItem, ExecutionError, Latency, TaskHead
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


NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
NOW_US = 1767323045_678901
TASK = TaskHead(id="t1", tenant="one", name="upper", created_at=NOW, updated_at=NOW)


def order(*items: ExecuteItem, **more: Any) -> verdict.Order:
    return verdict.Order(
        tenant="one", task="upper", batch=ExecuteBatch(items=items, **more), attempt=2
    )


def item(*, deadline_ms: int = 2_000) -> ExecuteItem:
    return ExecuteItem(
        id=ids.at(NOW_US // 1000 - 20, bytes(10)), input=b"1", deadline_ms=deadline_ms
    )


def test_a_batch_is_admitted_at_a_glance_only_where_each_item_would_be() -> None:
    """Validated by an ingress, for the task that there is, and in time: all or none."""
    for batch, admitted in (
        (order(item(), validated=True), True),
        (order(item(), validated=True, task_id="t1"), True),
        (order(item(), validated=False), False),
        (order(item(), validated=True, task_id="another"), False),
        (order(item(), item(deadline_ms=1_000), validated=True), False),
    ):
        items = batch.batch.items
        assert verdict.admits_all(batch, TASK, items, 1_000.0) is admitted
        if admitted:
            assert [verdict.admit(batch, TASK, each, 1_000.0, frozenset()) for each in items] == [
                None
            ]


def test_records_tell_times_in_whole_microseconds() -> None:
    """As JSON they have three digits behind the point, and no noise."""
    this = verdict.Pass(order=order(item()), worker="w", started_us=NOW_US - 1_001, task=TASK)
    ended = verdict.Verdict(status="success", output=b"2", run_ms=0.0123456)

    (record,) = this.records([item()], [ended], None, now_us=NOW_US)

    assert (record.executed_at, record.attempt, record.task_id) == (NOW, 2, "t1")
    assert record.latency_ms == Latency(queue=19.9, run=0.012, total=20.901)


def test_a_clock_behind_that_of_the_publisher_makes_no_negative_times() -> None:
    """Clocks of two machines differ."""
    this = verdict.Pass(order=order(item()), worker="w", started_us=NOW_US - 60_000_000)

    (record,) = this.records(
        [item()], [verdict.Verdict(status="success")], None, now_us=NOW_US - 50_000_000
    )

    assert (record.latency_ms.queue, record.latency_ms.total) == (0, 0)
