"""How an execution reads to people and clients: the JSON of HTTP answers and of JSON replies."""

from datetime import datetime
from typing import Literal

import msgspec

from streams import messages

NULL = msgspec.Raw(b"null")


class ExecutionView(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. `id` and `execution_id` are the same; both names have readers."""

    id: str
    execution_id: str
    task: str
    task_id: str
    program_id: str | None
    version: int | None
    status: str
    output: msgspec.Raw
    error_message: str | None
    error: messages.ExecutionError | None
    latency_ms: float
    latency: messages.Latency
    memory_usage_mb: float | None
    stdout: str
    sampled_for_validation: bool
    attempt: int
    trace_id: str
    executed_at: datetime
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Only in answers about past executions."""


class QueuedView(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that is accepted and not yet recorded."""

    id: str
    execution_id: str
    task_id: str | None = None
    status: Literal["queued"] = "queued"


class CancellingView(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that is not recorded yet, and whose cancellation is asked for."""

    id: str
    execution_id: str
    status: Literal["cancelling"] = "cancelling"


class DeadView(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that ended in DEAD."""

    id: str
    execution_id: str
    status: Literal["error"] = "error"
    error_message: str
    error: messages.ExecutionError
    executed_at: datetime


def execution(record: messages.ExecutionRecord) -> ExecutionView:
    """*record* for whoever asked for the execution, and knows its input."""
    return ExecutionView(
        id=record.id,
        execution_id=record.id,
        task=record.task,
        task_id=record.task_id,
        program_id=record.program_id,
        version=record.version,
        status=record.status,
        output=NULL if record.output is None else msgspec.Raw(record.output),
        error_message=record.error.message if record.error else None,
        error=record.error,
        latency_ms=record.latency_ms.total,
        latency=record.latency_ms,
        memory_usage_mb=record.memory_usage_mb,
        stdout=record.stdout,
        sampled_for_validation=record.sampled_for_validation,
        attempt=record.attempt,
        trace_id=record.trace_id,
        executed_at=record.executed_at,
    )


def past(record: messages.ExecutionRecord) -> ExecutionView:
    """The same with its input, which whoever looks it up may not have."""
    view = execution(record)
    if record.input is None:
        return view
    return msgspec.structs.replace(view, input=msgspec.Raw(record.input))


def dead(execution_id: str, letter: messages.DeadLetter) -> DeadView:
    """What *letter* says of one of the executions that ended in it."""
    return DeadView(
        id=execution_id,
        execution_id=execution_id,
        error_message=letter.detail,
        error=messages.ExecutionError(
            type="dead_letter", message=f"{letter.reason}: {letter.detail}"
        ),
        executed_at=letter.dead_at,
    )
