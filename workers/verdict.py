"""What becomes of one item, as a value; and the record that says so. Pure."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final

import msgspec

from loopai import errors
from loopai.catalog import schemas
from loopai.sandbox import answers, outcome
from streams import ids
from streams.messages import (
    EncodedJson,
    ExecuteBatch,
    ExecuteItem,
    ExecutionError,
    ExecutionRecord,
    ExecutionStatus,
    Latency,
    ProgramArtifact,
    TaskHead,
)

_STATUSES: Final[Mapping[outcome.OutcomeKind, ExecutionStatus]] = {
    "timeout": "timeout",
    "cancelled": "cancelled",
}
"""Of runs without a result; all others are errors."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, whose it is, and how often it was delivered."""

    tenant: str
    task: str
    batch: ExecuteBatch
    attempt: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one item ended, in a cell or before it got there."""

    status: ExecutionStatus
    error: ExecutionError | None = None
    output: EncodedJson | None = None
    run_ms: float = 0.0
    stdout: str = ""


NEVER_RAN: Final = Verdict(
    status="cancelled",
    error=ExecutionError(type="cancelled", message=answers.NEVER_RAN),
)
"""The item was cancelled before a worker got to it."""


def refused(error: errors.ApiError) -> Verdict:
    """The item cannot be run, for a reason of the table in loopai/errors.py."""
    return Verdict(status="rejected", error=ExecutionError(type=error.code, message=error.detail))


def admit(
    order: Order, task: TaskHead, item: ExecuteItem, now_ms: float, cancelled: AbstractSet[str]
) -> Verdict | None:
    """Why *item* must not run at *now_ms*, with those *cancelled*; None when it may."""
    if order.batch.task_id is not None and order.batch.task_id != task.id:
        return refused(errors.ApiError("TASK_NOT_FOUND", "the task was deleted meanwhile"))
    if item.id in cancelled:
        return NEVER_RAN
    if item.deadline_ms <= now_ms:
        late = ExecutionError(type="deadline_exceeded", message="the deadline passed in the queue")
        return Verdict(status="timeout", error=late)
    if not order.batch.validated:
        try:
            schemas.compiled(bytes(task.input_schema)).check(item.input, "/input")
        except schemas.Invalid as error:
            return refused(errors.ApiError("INVALID_INPUT", str(error)))
    return None


def judge(ended: outcome.Outcome, output_schema: schemas.Schema) -> Verdict:
    """What *ended* means for the caller: a program's output must match the task's schema."""
    if ended.kind != "success":
        error = ExecutionError(
            type=ended.error_type or ended.kind,
            message=ended.message,
            outcome=ended.kind,
            line=ended.line,
            traceback=ended.traceback,
        )
        return Verdict(
            status=_STATUSES.get(ended.kind, "error"),
            error=error,
            run_ms=ended.run_ms,
            stdout=ended.stdout,
        )
    try:
        output_schema.check(ended.output or b"", "/output")
    except schemas.Invalid as invalid:
        error = ExecutionError(
            type="invalid_output", message=str(invalid), outcome="invalid_result"
        )
        return Verdict(status="error", error=error, run_ms=ended.run_ms, stdout=ended.stdout)
    return Verdict(status="success", output=ended.output, run_ms=ended.run_ms, stdout=ended.stdout)


def record(
    order: Order,
    item: ExecuteItem,
    verdict: Verdict,
    *,
    task: TaskHead | None,
    artifact: ProgramArtifact | None,
    worker: str,
    started_ms: float,
    now: datetime,
) -> ExecutionRecord:
    """The audit's line about *item*: *task* and *artifact* are None where it never got to them."""
    accepted_ms = ids.minted_ms(item.id)
    return ExecutionRecord(
        id=item.id,
        tenant=order.tenant,
        task=order.task,
        task_id=task.id if task else order.batch.task_id or "",
        program_id=artifact.id if artifact else None,
        version=artifact.version if artifact else item.version,
        input=item.input,
        output=verdict.output,
        status=verdict.status,
        error=verdict.error,
        latency_ms=Latency(
            queue=round(max(0.0, started_ms - accepted_ms), 3),
            run=round(verdict.run_ms, 3),
            total=round(max(0.0, now.timestamp() * 1000 - accepted_ms), 3),
        ),
        stdout=verdict.stdout,
        sampled_for_validation=item.force_validation,
        attempt=order.attempt,
        worker=worker,
        trace_id=item.trace_id,
        executed_at=now,
    )
