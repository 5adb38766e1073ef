"""What becomes of one item, as a value; and the record that says so. Pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
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


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


def admits_all(order: Order, task: TaskHead, items: Sequence[ExecuteItem], now_ms: float) -> bool:
    """Whether `admit` would pass all of *items*, of which none is cancelled, without their inputs.

    It nearly always can tell: an ingress has validated them. 0.1 µs an item, a tenth of asking for
    each.
    """
    return (
        order.batch.validated
        and order.batch.task_id in {None, task.id}
        and min([item.deadline_ms for item in items]) > now_ms
    )


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
    if not output_schema.takes_anything:  # the sandbox has looked that it is of the domain
        try:
            output_schema.check(ended.output or b"", "/output")
        except schemas.Invalid as invalid:
            error = ExecutionError(
                type="invalid_output", message=str(invalid), outcome="invalid_result"
            )
            return Verdict(status="error", error=error, run_ms=ended.run_ms, stdout=ended.stdout)
    return Verdict(status="success", output=ended.output, run_ms=ended.run_ms, stdout=ended.stdout)


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's run of items of *order*: what their records have in common."""

    order: Order
    worker: str
    started_us: int
    """Unix time."""
    task: TaskHead | None = None
    """None where it never got to one."""
    shadow: bool = False

    def records(
        self,
        items: Sequence[ExecuteItem],
        verdicts: Sequence[Verdict],
        artifact: ProgramArtifact | None,
        *,
        now_us: int,
    ) -> list[ExecutionRecord]:
        """The audit's lines about *items*; *artifact* is None where they never got to one."""
        order, worker, started_us = self.order, self.worker, self.started_us
        shadow = self.shadow
        tenant, name, attempt = order.tenant, order.task, order.attempt
        task_id = self.task.id if self.task else order.batch.task_id or ""
        program_id, version = (artifact.id, artifact.version) if artifact else (None, None)
        executed_at = datetime.fromtimestamp(now_us / 1_000_000, UTC)
        found = []
        for item, verdict in zip(items, verdicts, strict=True):
            accepted_us = ids.minted_ms(item.id) * 1000
            found.append(
                ExecutionRecord(
                    id=item.id,
                    tenant=tenant,
                    task=name,
                    task_id=task_id,
                    program_id=program_id,
                    version=version or item.version,
                    input=item.input,
                    output=verdict.output,
                    status=verdict.status,
                    error=verdict.error,
                    latency_ms=Latency(
                        # Of whole microseconds: they need no rounding. Clocks may differ.
                        queue=max(0, started_us - accepted_us) / 1000,
                        run=round(verdict.run_ms, 3),
                        total=max(0, now_us - accepted_us) / 1000,
                    ),
                    stdout=verdict.stdout,
                    sampled_for_validation=item.force_validation,
                    attempt=attempt,
                    worker=worker,
                    trace_id=item.trace_id,
                    executed_at=executed_at,
                    shadow=shadow,
                )
            )
        return found
