"""From what the HTTP API answers to the messages of gRPC."""

from datetime import datetime
from typing import Final

import msgspec

from loopai import views
from loopai.ingress import batch, flow
from loopai.ingress.rpc import loopai_pb2
from streams.messages import ExecutionError, Latency, Operation, Problem

RESULTS_BYTES_MAX: Final = 1024 * 1024
"""Outputs in one message, from which on the next one begins: clients take 4 MiB by default."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An ExecutionView, a QueuedView or a DeadView, as it was answered."""

    id: str
    status: str
    task: str | None = None
    task_id: str | None = None
    program_id: str | None = None
    version: int | None = None
    output: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    error_message: str | None = None
    error: ExecutionError | None = None
    latency_ms: float | None = None
    latency: Latency | None = None
    memory_usage_mb: float | None = None
    stdout: str = ""
    sampled_for_validation: bool = False
    attempt: int | None = None
    trace_id: str | None = None
    executed_at: datetime | None = None


_seen = msgspec.json.Decoder(_Seen)
_operation = msgspec.json.Decoder(Operation)
_result = msgspec.json.Decoder(flow.Result)
_last = msgspec.json.Decoder(batch.LastLine)


def execution(view: views.ExecutionView | _Seen) -> bytes:
    latency = view.latency
    return loopai_pb2.Execution(
        id=view.id,
        task=view.task,
        task_id=view.task_id,
        program_id=view.program_id,
        version=view.version,
        status=view.status,
        output=bytes(view.output),
        error_message=view.error_message,
        error=_error(view.error),
        latency_ms=view.latency_ms,
        latency=None
        if latency is None
        else loopai_pb2.Latency(queue=latency.queue, run=latency.run, total=latency.total),
        memory_usage_mb=view.memory_usage_mb,
        stdout=view.stdout,
        sampled_for_validation=view.sampled_for_validation,
        attempt=view.attempt,
        trace_id=view.trace_id,
        executed_at=view.executed_at,
    ).SerializeToString()


def answered_execution(body: bytes) -> bytes:
    return execution(_seen.decode(body))


def operation(body: bytes) -> bytes:
    found = _operation.decode(body)
    return loopai_pb2.Operation(
        id=found.id,
        kind=found.kind,
        tenant=found.tenant,
        task=found.task,
        task_id=found.task_id,
        status=found.status,
        stage=found.stage,
        version=found.version,
        activated=found.activated,
        message=found.message,
        error=_problem(found.error),
        created_at=found.created_at,
        updated_at=found.updated_at,
    ).SerializeToString()


def responses(lines: bytes) -> list[bytes]:
    """Messages of a batch for the *lines* of its answer, which are whole."""
    made: list[bytes] = []
    results = loopai_pb2.BatchResults()
    size = 0
    summary = b""
    for line in lines.splitlines():
        if line.startswith(b'{"summary"'):
            summary = _summary(_last.decode(line))
            continue
        found = _result.decode(line)
        results.results.add(
            id=found.id,
            execution_id=found.execution_id,
            status=found.status,
            output=bytes(found.output),
            error_message=found.error_message,
            error=_error(found.error),
            version=found.version,
            latency_ms=found.latency_ms,
            sampled_for_validation=found.sampled_for_validation,
        )
        size += len(line)
        if size >= RESULTS_BYTES_MAX:
            made.append(loopai_pb2.ExecuteBatchResponse(results=results).SerializeToString())
            results, size = loopai_pb2.BatchResults(), 0
    if results.results:
        made.append(loopai_pb2.ExecuteBatchResponse(results=results).SerializeToString())
    if summary:
        made.append(summary)
    return made


def _summary(last: batch.LastLine) -> bytes:
    told = last.summary
    return loopai_pb2.ExecuteBatchResponse(
        summary=loopai_pb2.BatchSummary(
            batch_id=told.batch_id,
            task_id=told.task_id,
            total=told.total,
            succeeded=told.succeeded,
            failed=told.failed,
            duration_ms=told.duration_ms,
            problem=_problem(last.problem),
        )
    ).SerializeToString()


def _error(found: ExecutionError | None) -> loopai_pb2.ExecutionError | None:
    if found is None:
        return None
    return loopai_pb2.ExecutionError(
        type=found.type,
        message=found.message,
        outcome=found.outcome,
        line=found.line,
        traceback=found.traceback,
    )


def _problem(found: Problem | None) -> loopai_pb2.Problem | None:
    return None if found is None else loopai_pb2.Problem(code=found.code, message=found.message)
