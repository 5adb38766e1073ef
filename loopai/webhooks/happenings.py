"""What webhooks are told, made of what the bus holds anyway: records, versions, operations."""

import hashlib
from datetime import datetime
from typing import Final, Literal

import msgspec

from loopai import views
from streams import ids
from streams.messages import (
    ArtifactStatus,
    DeadLetter,
    EncodedJson,
    ExecutionRecord,
    ExecutionStatus,
    Language,
    Operation,
    ProgramArtifact,
    Rollout,
    RolloutAction,
    TaskHead,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)

BODY_BYTES_MAX: Final = 64 * 1024
"""Of one event. A larger one tells the ids, by which the rest can be had."""
PING: Final = "webhook.ping"
OPERATION_ENDED: Final = ("succeeded", "failed")

_encode = msgspec.json.Encoder().encode
_EXECUTIONS: Final[dict[str, WebhookEvent]] = {
    "success": "execution.succeeded",
    "cancelled": "execution.cancelled",
}


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that webhooks may be told of."""

    key: str
    """The same, and only the same, whenever this is read again."""
    type: WebhookEvent
    tenant: str
    task: str
    time: datetime
    data: EncodedJson


class LargeExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that is too large to be posted: `GET /executions/{id}` has the rest."""

    id: str
    execution_id: str
    task: str
    task_id: str
    version: int | None
    status: ExecutionStatus
    truncated: Literal[True] = True


class VersionMade(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was uploaded or generated."""

    task: str
    task_id: str
    version: int
    program_id: str
    status: ArtifactStatus
    status_reason: str
    language: Language
    engine: str
    confidence_score: float | None
    created_by: str


class VersionActive(msgspec.Struct, frozen=True, kw_only=True):
    """A version that answers now."""

    task: str
    task_id: str
    version: int | None
    previous: int | None
    action: RolloutAction
    forced: bool
    by: str


class Pinged(msgspec.Struct, frozen=True, kw_only=True):
    """A test event."""

    webhook_id: str
    description: str


def of_record(record: ExecutionRecord) -> Happening:
    """The end of an execution."""
    data = _encode(views.execution(record))
    if len(data) > BODY_BYTES_MAX:
        data = _encode(
            LargeExecution(
                id=record.id,
                execution_id=record.id,
                task=record.task,
                task_id=record.task_id,
                version=record.version,
                status=record.status,
            )
        )
    return Happening(
        key=f"execution:{record.id}",
        type=_EXECUTIONS.get(record.status, "execution.failed"),
        tenant=record.tenant,
        task=record.task,
        time=record.executed_at,
        data=data,
    )


def of_dead(letter: DeadLetter, tenant: str, task: str) -> list[Happening]:
    """The executions that ended in *letter*."""
    return [
        Happening(
            key=f"dead:{each}",
            type="execution.failed",
            tenant=tenant,
            task=task,
            time=letter.dead_at,
            data=_encode(views.dead(each, letter)),
        )
        for each in letter.execution_ids
    ]


def of_artifact(artifact: ProgramArtifact, task: TaskHead) -> Happening:
    """A new version."""
    return Happening(
        key=f"artifact:{artifact.id}",
        type="artifact.created",
        tenant=task.tenant,
        task=task.name,
        time=artifact.created_at,
        data=_encode(
            VersionMade(
                task=task.name,
                task_id=task.id,
                version=artifact.version,
                program_id=artifact.id,
                status=artifact.status,
                status_reason=artifact.status_reason,
                language=artifact.language,
                engine=artifact.engine,
                confidence_score=artifact.confidence_score,
                created_by=artifact.created_by,
            )
        ),
    )


def of_rollout(rollout: Rollout, revision: int, task: TaskHead) -> list[Happening]:
    """What the latest change of *rollout* made of the active version."""
    if not rollout.history:
        return []
    latest = rollout.history[-1].at
    return [
        Happening(
            key=f"rollout:{task.id}:{revision}",
            type="artifact.rolled_back" if change.action == "rollback" else "artifact.activated",
            tenant=task.tenant,
            task=task.name,
            time=change.at,
            data=_encode(
                VersionActive(
                    task=task.name,
                    task_id=task.id,
                    version=change.version,
                    previous=change.previous,
                    action=change.action,
                    forced=change.forced,
                    by=change.by,
                )
            ),
        )
        for change in rollout.history
        # All lines of one change have its time.
        if change.at == latest and change.action in ("activate", "promote", "rollback")
    ]


def of_operation(operation: Operation) -> list[Happening]:
    """The end of *operation*; nothing while it runs."""
    if operation.status not in OPERATION_ENDED:
        return []
    return [
        Happening(
            key=f"operation:{operation.id}",
            type="operation.finished",
            tenant=operation.tenant,
            task=operation.task,
            time=operation.updated_at,
            data=_encode(operation),
        )
    ]


def wants(webhook: Webhook, happening: Happening, stored_at: datetime) -> bool:
    """Whether *webhook* is to be told of *happening*, which the bus has had since *stored_at*."""
    return (
        webhook.enabled
        and webhook.tenant == happening.tenant
        and happening.type in webhook.events
        and webhook.task in (None, happening.task)
        and stored_at >= webhook.since
    )


def delivery(happening: Happening, webhook: Webhook) -> WebhookDelivery:
    """What *webhook* is to be posted of *happening*: always with the same id."""
    digest = hashlib.sha256(f"{webhook.id} {happening.key}".encode()).digest()
    return WebhookDelivery(
        id=ids.at(int(happening.time.timestamp() * 1000), digest[:10]),
        webhook_id=webhook.id,
        type=happening.type,
        body=body(happening.type, happening.time, happening.data),
        created_at=happening.time,
    )


def ping(webhook: Webhook, now: datetime) -> WebhookDelivery:
    """A delivery that says only that it comes."""
    data = _encode(Pinged(webhook_id=webhook.id, description=webhook.description))
    return WebhookDelivery(
        id=ids.new(),
        webhook_id=webhook.id,
        type=PING,
        body=body(PING, now, data),
        created_at=now,
    )


def body(kind: str, time: datetime, data: EncodedJson) -> EncodedJson:
    """As Standard Webhooks has it."""
    return _encode({"type": kind, "timestamp": time, "data": msgspec.Raw(data)})
