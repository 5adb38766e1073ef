"""What there is to say of tasks, versions, rollouts and generations."""

from typing import Any, Final

from loopai.catalog import rollouts as changes
from loopai.ingress import artifacts, generate, tasks
from loopai.ingress.describe import follow, shapes
from loopai.ingress.describe.operation import Answer, Body, Operation
from loopai.ingress.describe.parameters import (
    DIGEST,
    IF_MATCH,
    IF_NONE_MATCH,
    LAST_EVENT_ID,
    OPERATION,
    OPERATION_ID,
    PROGRAM_ID,
    TASK,
    TASK_ID,
    TIME,
    VERSION,
    WAIT,
)
from streams import messages

CODE: Final = "def run(input):\n    return input['text'].upper()\n"
_WORDS: Final[dict[str, Any]] = {
    "name": "tickets",
    "description": "Which team answers a customer's message.",
    "input_schema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
    "output_schema": {"type": "string", "enum": ["billing", "delivery", "login"]},
    "accuracy_target": 0.9,
}
_EXAMPLES: Final = {
    "examples": [{"input": {"text": "Where is my parcel"}, "output": "delivery"}],
    "latency_target_ms": 10.0,
    "sampling_rate": 0.1,
}
_HEAD: Final[dict[str, Any]] = {
    **_WORDS,
    "id": TASK_ID,
    "tenant": "default",
    "created_at": TIME,
    "updated_at": TIME,
    "revision": 7,
}
_TASK: Final[dict[str, Any]] = {**_HEAD, **_EXAMPLES}
_ARTIFACT: Final[dict[str, Any]] = {
    "id": PROGRAM_ID,
    "task_id": TASK_ID,
    "version": 1,
    "language": "python",
    "digest": DIGEST,
    "size_bytes": 52,
    "synthesis_strategy": "manual",
    "engine": "manual",
    "confidence_score": None,
    "complexity_metrics": {
        "cyclomatic_complexity": 1,
        "lines_of_code": 2,
        "estimated_latency_ms": 0.03,
    },
    "evaluation": None,
    "llm_provider": None,
    "llm_model": None,
    "generation_cost": 0.0,
    "generation_time_sec": 0.0,
    "isolation": "shared",
    "status": "validated",
    "status_reason": "uploaded by hand, not evaluated; it gave one input one answer",
    "created_at": TIME,
    "deployed_at": None,
    "created_by": "api",
}
_CHANGE: Final = {
    "at": TIME,
    "by": "api",
    "action": "activate",
    "version": 1,
    "previous": None,
    "percent": None,
    "forced": False,
}
_ROLLOUT: Final = {
    "task_id": TASK_ID,
    "active": 1,
    "canary": {"version": 2, "percent": 5.0, "stage": 0, "started_at": TIME},
    "shadow": None,
    "history": [_CHANGE],
}
_OPERATION: Final[dict[str, Any]] = {
    "id": OPERATION_ID,
    "kind": "generate",
    "tenant": "default",
    "task": "tickets",
    "task_id": TASK_ID,
    "status": "queued",
    "stage": "",
    "version": None,
    "activated": False,
    "message": "",
    "error": None,
    "created_at": TIME,
    "updated_at": TIME,
}
_ENDED: Final = {
    **_OPERATION,
    "status": "succeeded",
    "version": 1,
    "activated": True,
    "message": "100.0% of 24 held-out examples answered right",
}
_CHANGED: Final = ("PRECONDITION_FAILED", "CONFLICT")
_TEXTS: Final = (*artifacts.MEDIA_TYPES.values(), "text/plain")


def _task(summary: str, status: int = 200, headers: tuple[str, ...] = ("ETag",)) -> Answer:
    return Answer(
        status=status,
        summary=summary,
        type=messages.TaskSpecification,
        example=_TASK,
        headers=headers,
    )


def _rollout(summary: str) -> Answer:
    return Answer(
        status=200, summary=summary, type=messages.Rollout, example=_ROLLOUT, headers=("ETag",)
    )


TASKS: Final = (
    Operation(
        method="POST",
        path="/api/v1/tasks",
        id="createTask",
        tag="tasks",
        summary="Describe a task",
        text="Only `name` is required. Schemas are JSON Schema (2020-12 unless `$schema` says "
        "otherwise); every example must fit both.",
        body=Body(type=tasks.CreateTask, example={**_WORDS, **_EXAMPLES}),
        answers=(_task("The task, with its id.", 201, ("ETag", "Location")),),
        errors=("TASK_ALREADY_EXISTS",),
    ),
    Operation(
        method="GET",
        path="/api/v1/tasks",
        id="listTasks",
        tag="tasks",
        summary="List tasks",
        answers=(
            Answer(
                status=200,
                summary="All tasks by name, without their examples.",
                type=shapes.Tasks,
                example={"tasks": [_HEAD]},
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/api/v1/tasks/{task}",
        id="getTask",
        tag="tasks",
        summary="Read a task",
        parameters=(TASK,),
        answers=(_task("The whole task."),),
        errors=("TASK_NOT_FOUND",),
    ),
    Operation(
        method="PATCH",
        path="/api/v1/tasks/{task}",
        id="changeTask",
        tag="tasks",
        summary="Change a task",
        text="The fields given are changed; `name` never is.",
        parameters=(TASK, IF_MATCH),
        body=Body(type=tasks.PatchTask, example={"accuracy_target": 0.95}),
        answers=(_task("The task as it is now."),),
        errors=("TASK_NOT_FOUND", *_CHANGED),
    ),
    Operation(
        method="DELETE",
        path="/api/v1/tasks/{task}",
        id="deleteTask",
        tag="tasks",
        summary="Delete a task",
        text="Its versions and its rollout go too; records stay.",
        parameters=(TASK, IF_MATCH),
        answers=(Answer(status=204, summary="It is gone."),),
        errors=("TASK_NOT_FOUND", *_CHANGED),
    ),
)
GENERATION: Final = (
    Operation(
        method="POST",
        path="/api/v1/tasks/{task}/generate",
        id="generateProgram",
        tag="generation",
        summary="Have a program made from the task's examples",
        text="An empty body means the defaults. With `wait` the answer is 200 if it ends in time.",
        parameters=(TASK, WAIT),
        body=Body(
            type=generate.Generate,
            example={"engine": "examples", "seed": 0, "activate": True},
            required=False,
        ),
        answers=(
            Answer(
                status=202,
                summary="Accepted; look it up at `Location`.",
                type=messages.Operation,
                example=_OPERATION,
                headers=("Location",),
            ),
            Answer(
                status=200,
                summary="It has ended, well or not: see `status`.",
                type=messages.Operation,
                example=_ENDED,
                headers=("Location",),
            ),
        ),
        errors=("TASK_NOT_FOUND", "BACKLOG_FULL"),
    ),
    Operation(
        method="GET",
        path="/api/v1/operations/{operation}",
        id="getOperation",
        tag="generation",
        summary="Look an operation up",
        text="Kept for a week. With `Accept: text/event-stream` the same as its events.",
        parameters=(OPERATION, WAIT, LAST_EVENT_ID),
        answers=(
            Answer(
                status=200,
                summary="The operation as it is, or as it is after `wait` seconds.",
                type=messages.Operation,
                example=_ENDED,
                as_events=follow.OF_OPERATION,
                headers=("Location",),
            ),
            follow.NOTHING_MORE,
        ),
        errors=("OPERATION_NOT_FOUND", "OVERLOADED"),
    ),
)
VERSIONS: Final = (
    Operation(
        method="POST",
        path="/api/v1/tasks/{task}/artifacts",
        id="uploadProgram",
        tag="versions",
        summary="Upload a program as the next version",
        text="It defines `run(input)`, and is loaded and tried in a cell before it is stored.",
        parameters=(TASK,),
        body=Body(
            type=artifacts.Upload, example={"code": CODE, "language": "python", "activate": False}
        ),
        answers=(
            Answer(
                status=201,
                summary="The version.",
                type=messages.ProgramArtifact,
                example=_ARTIFACT,
                headers=("Location",),
            ),
        ),
        errors=(
            "TASK_NOT_FOUND",
            "INVALID_PROGRAM",
            "RUNTIME_UNAVAILABLE",
            "STORE_UNAVAILABLE",
            "CONFLICT",
        ),
    ),
    Operation(
        method="GET",
        path="/api/v1/tasks/{task}/artifacts",
        id="listVersions",
        tag="versions",
        summary="List the versions of a task",
        parameters=(TASK,),
        answers=(
            Answer(
                status=200,
                summary="Newest first, without their texts.",
                type=shapes.Artifacts,
                example={"artifacts": [_ARTIFACT]},
            ),
        ),
        errors=("TASK_NOT_FOUND",),
    ),
    Operation(
        method="GET",
        path="/api/v1/tasks/{task}/artifacts/{version}",
        id="getVersion",
        tag="versions",
        summary="Read one version",
        parameters=(TASK, VERSION),
        answers=(
            Answer(
                status=200,
                summary="The version, with the text of its program.",
                type=shapes.ArtifactWithCode,
                example={**_ARTIFACT, "code": CODE},
            ),
        ),
        errors=("TASK_NOT_FOUND", "ARTIFACT_NOT_FOUND", "PROGRAM_DAMAGED", "STORE_UNAVAILABLE"),
    ),
    Operation(
        method="GET",
        path="/api/v1/tasks/{task}/artifacts/{version}/program",
        id="getProgram",
        tag="versions",
        summary="Read the text of one version",
        text="Asked by the task's id it may be kept for ever; by its name a cache must ask again.",
        parameters=(TASK, VERSION, IF_NONE_MATCH),
        answers=(
            Answer(
                status=200,
                summary="The program.",
                type=str,
                example=CODE,
                media=_TEXTS,
                headers=("ETag", "Cache-Control"),
            ),
            Answer(
                status=304,
                summary="The caller has it: `If-None-Match` names its digest.",
                headers=("ETag", "Cache-Control"),
            ),
        ),
        errors=("TASK_NOT_FOUND", "ARTIFACT_NOT_FOUND", "PROGRAM_DAMAGED", "STORE_UNAVAILABLE"),
    ),
    Operation(
        method="POST",
        path="/api/v1/tasks/{task}/artifacts/{version}/activate",
        id="activateVersion",
        tag="versions",
        summary="Let a version answer from now on",
        text="A draft or a failed version needs `force`.",
        parameters=(TASK, VERSION, IF_MATCH),
        body=Body(type=artifacts.Activate, example={"force": False}, required=False),
        answers=(_rollout("The rollout as it is now."),),
        errors=("TASK_NOT_FOUND", "ARTIFACT_NOT_FOUND", "ARTIFACT_NOT_ACTIVATABLE", *_CHANGED),
    ),
)
_ROLLOUT_PATH: Final = "/api/v1/tasks/{task}/rollout"
ROLLOUTS: Final = (
    Operation(
        method="GET",
        path=_ROLLOUT_PATH,
        id="getRollout",
        tag="rollouts",
        summary="Which version of a task answers",
        parameters=(TASK,),
        answers=(_rollout("The rollout."),),
        errors=("TASK_NOT_FOUND", "NO_ACTIVE_VERSION"),
    ),
    Operation(
        method="PUT",
        path=_ROLLOUT_PATH,
        id="changeRollout",
        tag="rollouts",
        summary="Change which version answers, and for how many",
        text="What is absent stays, null removes.",
        parameters=(TASK, IF_MATCH),
        body=Body(
            type=changes.Change,
            example={"active": 1, "canary": {"version": 2, "percent": 5.0}, "shadow": None},
        ),
        answers=(_rollout("The rollout as it is now."),),
        errors=("TASK_NOT_FOUND", "ARTIFACT_NOT_FOUND", "ARTIFACT_NOT_ACTIVATABLE", *_CHANGED),
    ),
    Operation(
        method="POST",
        path=f"{_ROLLOUT_PATH}/promote",
        id="promoteCanary",
        tag="rollouts",
        summary="Let the canary answer everybody",
        parameters=(TASK, IF_MATCH),
        answers=(_rollout("The rollout as it is now."),),
        errors=(
            "TASK_NOT_FOUND",
            "NO_CANARY",
            "ARTIFACT_NOT_FOUND",
            "ARTIFACT_NOT_ACTIVATABLE",
            *_CHANGED,
        ),
    ),
    Operation(
        method="POST",
        path=f"{_ROLLOUT_PATH}/rollback",
        id="rollBack",
        tag="rollouts",
        summary="Go back to the version that was active before",
        parameters=(TASK, IF_MATCH),
        answers=(_rollout("The rollout as it is now."),),
        errors=("TASK_NOT_FOUND", "NO_PREVIOUS_VERSION", *_CHANGED),
    ),
)
