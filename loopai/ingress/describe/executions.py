"""What there is to say of executions, batches, queues, sites, health and these documents."""

from typing import Any, Final

from loopai import views
from loopai.ingress import batch, execute, flow
from loopai.ingress.describe import follow, shapes
from loopai.ingress.describe.operation import (
    HTML,
    JSON,
    NDJSON,
    TEXT,
    Answer,
    Body,
    Operation,
    Parameter,
    text,
)
from loopai.ingress.describe.parameters import (
    BATCH_ID,
    DIGEST,
    EXECUTION,
    EXECUTION_ID,
    IF_NONE_MATCH,
    INPUT,
    LAST_EVENT_ID,
    PREFER,
    PROGRAM_ID,
    TASK,
    TASK_ID,
    TIME,
    TRACE_ID,
    WAIT,
)

_RAN: Final[dict[str, Any]] = {
    "id": EXECUTION_ID,
    "execution_id": EXECUTION_ID,
    "task": "tickets",
    "task_id": TASK_ID,
    "program_id": PROGRAM_ID,
    "version": 1,
    "status": "success",
    "output": "delivery",
    "error_message": None,
    "error": None,
    "latency_ms": 4.756,
    "latency": {"queue": 3.582, "run": 0.23, "total": 4.756},
    "memory_usage_mb": None,
    "stdout": "",
    "sampled_for_validation": False,
    "attempt": 1,
    "trace_id": TRACE_ID,
    "executed_at": TIME,
}
_SUMMARY: Final = {
    "batch_id": BATCH_ID,
    "task_id": TASK_ID,
    "total": 1,
    "succeeded": 1,
    "failed": 0,
    "duration_ms": 24.385,
}
_RESULT: Final = {
    "id": "a",
    "execution_id": EXECUTION_ID,
    "status": "success",
    "output": "delivery",
    "error_message": None,
    "error": None,
    "version": 1,
    "latency_ms": 12.178,
    "sampled_for_validation": False,
}
_WAITED: Final = (
    "TASK_NOT_FOUND",
    "ARTIFACT_NOT_FOUND",
    "NO_ACTIVE_VERSION",
    "INVALID_INPUT",
    "BACKLOG_FULL",
    "OVERLOADED",
    "DEADLINE_PASSED",
)
_ANSWERS: Final = (
    Answer(
        status=200,
        summary="How it ended. A program that fails is a 200 too: see `status`.",
        type=views.ExecutionView,
        example=_RAN,
    ),
    Answer(
        status=202,
        summary="Stored, and not ended yet; look it up at `Location`.",
        type=views.QueuedView,
        example={
            "id": EXECUTION_ID,
            "execution_id": EXECUTION_ID,
            "task_id": TASK_ID,
            "status": "queued",
        },
        headers=("Location", "Preference-Applied"),
    ),
)
_EXECUTE: Final = {"input": INPUT, "timeout_ms": 5000, "routing_key": "customer-17"}

EXECUTE: Final = (
    Operation(
        method="POST",
        path="/api/v1/tasks/{task}/execute",
        id="execute",
        tag="executions",
        summary="Run a task's program on one input",
        text="Waits for the result, unless `Prefer` or `wait` say otherwise. Only `input` is "
        "required; `timeout_ms` is 1 to 300,000.",
        parameters=(TASK, WAIT, PREFER),
        body=Body(type=execute.Execute, example=_EXECUTE),
        answers=_ANSWERS,
        errors=_WAITED,
    ),
    Operation(
        method="POST",
        path="/api/v1/tasks/execute",
        id="executeTask",
        tag="executions",
        summary="Run a task's program on one input, the task named in the body",
        parameters=(WAIT, PREFER),
        body=Body(type=execute.ExecuteTask, example={**_EXECUTE, "task_id": TASK_ID}),
        answers=_ANSWERS,
        errors=_WAITED,
    ),
)
EXECUTIONS: Final = (
    Operation(
        method="GET",
        path="/api/v1/executions/{execution}",
        id="getExecution",
        tag="executions",
        summary="Look an execution up",
        text="With `Accept: text/event-stream` the same as its events.",
        parameters=(EXECUTION, WAIT, LAST_EVENT_ID),
        answers=(
            Answer(
                status=200,
                summary="How it ended, with its input; or that it is queued.",
                type=shapes.LOOKED,
                example={**_RAN, "input": INPUT},
                as_events=follow.OF_EXECUTION,
            ),
            follow.NOTHING_MORE,
        ),
        errors=("EXECUTION_NOT_FOUND", "OVERLOADED"),
    ),
    Operation(
        method="DELETE",
        path="/api/v1/executions/{execution}",
        id="cancelExecution",
        tag="executions",
        summary="Cancel an execution",
        text="Asking again does no harm. One that has ended keeps its result.",
        parameters=(EXECUTION, WAIT),
        answers=(
            Answer(
                status=202,
                summary="It is stored that nobody wants it.",
                type=views.CancellingView,
                example={
                    "id": EXECUTION_ID,
                    "execution_id": EXECUTION_ID,
                    "status": "cancelling",
                },
                headers=("Location",),
            ),
            Answer(
                status=200,
                summary="How it ended, within `wait` seconds.",
                type=shapes.ENDED,
                example={**_RAN, "status": "cancelled", "output": None, "input": INPUT},
            ),
        ),
        errors=("EXECUTION_NOT_FOUND", "EXECUTION_ENDED", "OVERLOADED"),
    ),
)


def _of_lines(name: str, summary: str, schema: dict[str, Any]) -> Parameter:
    return Parameter(name=name, where="query", summary=f"Of lines: {summary}", schema=schema)


_COUNT: Final = {"type": "integer"}
_YES: Final = {"type": "boolean"}
BATCHES: Final = (
    Operation(
        method="POST",
        path="/api/v1/batch/execute",
        id="executeBatch",
        tag="executions",
        summary="Run a task's program on many inputs",
        text="As JSON, or as lines: with `application/x-ndjson` each line of the body is an item "
        "and each line of the answer a result, written while items are still being read; the last "
        "line has the `summary`. With `Accept: text/event-stream` either is answered as events: "
        "`result`s as they come, then the `summary`. Lines take their parameters in the query, "
        "JSON in the body.",
        parameters=(
            _of_lines("task_id", "id or name; required.", text()),
            _of_lines("version", "one that need not be the active one.", _COUNT),
            _of_lines("ordered", "`false`: results as they come.", _YES),
            _of_lines(
                "max_concurrency",
                "items on their way at once.",
                {**_COUNT, "minimum": 1, "maximum": flow.CONCURRENCY},
            ),
            _of_lines("stop_on_first_error", "cancel what was not sent.", _YES),
            _of_lines("timeout_ms", "of each item, from when it is sent.", _COUNT),
        ),
        body=Body(
            type=batch.Batch,
            example={"task_id": "tickets", "items": [{"id": "a", "input": INPUT}]},
            media=(JSON, NDJSON),
        ),
        answers=(
            Answer(
                status=200,
                summary="Results of all items, whether or not some failed.",
                type=shapes.BatchAnswer,
                example={"results": [_RESULT], **_SUMMARY},
                media=(JSON, NDJSON),
                as_events=follow.OF_BATCH,
            ),
        ),
        errors=(
            "TASK_NOT_FOUND",
            "ARTIFACT_NOT_FOUND",
            "NO_ACTIVE_VERSION",
            "BACKLOG_FULL",
            "OVERLOADED",
        ),
    ),
)
STATE: Final = (
    Operation(
        method="GET",
        path="/api/v1/queues",
        id="getQueues",
        tag="state",
        summary="What is queued and running",
        parameters=(
            Parameter(
                name="task",
                where="query",
                summary="Id or name of one task; all of them without it.",
                schema=TASK.schema,
            ),
        ),
        answers=(
            Answer(
                status=200,
                summary="By task and lane, those with most queued.",
                type=shapes.Queues,
                example={
                    "queues": [
                        {
                            "task": "tickets",
                            "lane": "bulk",
                            "runtime": None,
                            "queued": 812,
                            "running": 8,
                            "oldest_s": 4.2,
                            "rate": 210.5,
                        }
                    ]
                },
            ),
        ),
        errors=("TASK_NOT_FOUND",),
    ),
    Operation(
        method="GET",
        path="/api/v1/sync",
        id="getSync",
        tag="state",
        summary="How far the store of each site follows the registry",
        answers=(
            Answer(
                status=200,
                summary="Sites whose syncer lives.",
                type=shapes.Sync,
                example={
                    "sites": [
                        {
                            "site": "eu",
                            "store": "s3://programs/eu",
                            "versions": 812,
                            "missing": 1,
                            "lag_s": 3.2,
                            "conflicts": 1,
                            "latest_conflicts": [
                                {
                                    "task": "tickets",
                                    "version": 1,
                                    "expected": DIGEST,
                                    "found": DIGEST[::-1],
                                    "at": TIME,
                                }
                            ],
                            "reason": "cannot write s3://programs/eu: it does not answer",
                            "updated_at": TIME,
                        }
                    ]
                },
            ),
        ),
    ),
)
_OK: Final = {"broker": "ok"}
HEALTH: Final = (
    Operation(
        method="GET",
        path="/health",
        id="getHealth",
        tag="health",
        summary="What works, and how many workers there are",
        answers=(
            Answer(
                status=200,
                summary="Also where something does not work.",
                type=shapes.Health,
                example={
                    "status": "healthy",
                    "version": "0.1.0",
                    "timestamp": TIME,
                    "checks": _OK,
                    "workers": {"ingress": 1, "executor": 1, "generator": 1, "recorder": 1},
                },
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/health/live",
        id="getLive",
        tag="health",
        summary="Whether this process answers at all",
        answers=(
            Answer(
                status=200,
                summary="It does.",
                type=shapes.Live,
                example={"status": "alive", "version": "0.1.0"},
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/health/ready",
        id="getReady",
        tag="health",
        summary="Whether requests can be accepted",
        answers=(
            Answer(
                status=200,
                summary="The bus stores what is published.",
                type=shapes.Ready,
                example={"status": "ready", "checks": _OK},
            ),
            Answer(
                status=503,
                summary="It does not.",
                type=shapes.Ready,
                example={"status": "not ready", "checks": {"broker": "does not answer"}},
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/metrics",
        id="getMetrics",
        tag="health",
        summary="Metrics of this process, for Prometheus",
        answers=(
            Answer(
                status=200,
                summary="Prometheus text.",
                type=str,
                example='loopai_executions_total{status="success"} 3.0\n',
                media=(TEXT,),
            ),
        ),
    ),
)


def _document(path: str, id_: str, summary: str, media: str, example: Any) -> Operation:
    return Operation(
        method="GET",
        path=path,
        id=id_,
        tag="documents",
        summary=summary,
        parameters=(IF_NONE_MATCH,),
        answers=(
            Answer(
                status=200,
                summary="The document.",
                type=dict[str, Any] if media == JSON else str,
                example=example,
                media=(media,),
                headers=("ETag", "Cache-Control"),
            ),
            Answer(status=304, summary="The caller has it.", headers=("ETag", "Cache-Control")),
        ),
    )


DOCUMENTS: Final = (
    _document(
        "/openapi.json", "getOpenApi", "This API, as OpenAPI 3.1", JSON, {"openapi": "3.1.0"}
    ),
    _document(
        "/asyncapi.json", "getAsyncApi", "The bus, as AsyncAPI 3", JSON, {"asyncapi": "3.0.0"}
    ),
    _document("/swagger", "getSwagger", "This API, to read and try in a browser", HTML, "<html>"),
)
"""But for the files that the page loads: they are no part of what is promised."""
