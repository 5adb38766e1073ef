"""Answers that handlers put together themselves, as types: the document has their schemas."""

from datetime import datetime
from typing import Final, Literal

import msgspec

from loopai import views
from loopai.errors import FieldError  # its module has the name of a field
from loopai.ingress import deliveries as attempts
from loopai.ingress import flow, keys, queues, webhooks
from streams import messages


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A request that could not be served (RFC 9457). Act on `code`; `detail` is for people."""

    type: str
    """`urn:loopai:error:` and the code."""
    title: str
    status: int
    detail: str
    code: str
    trace_id: str
    errors: tuple[FieldError, ...] | msgspec.UnsetType = msgspec.UNSET
    """Where in the body, as JSON Pointers (RFC 6901); at most ten."""
    limit_bytes: int | msgspec.UnsetType = msgspec.UNSET
    execution_id: str | msgspec.UnsetType = msgspec.UNSET
    execution_status: str | msgspec.UnsetType = msgspec.UNSET
    line: int | msgspec.UnsetType = msgspec.UNSET


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    tasks: tuple[messages.TaskHead, ...]


class Artifacts(msgspec.Struct, frozen=True, kw_only=True):
    artifacts: tuple[messages.ProgramArtifact, ...]


class ArtifactWithCode(messages.ProgramArtifact, frozen=True, kw_only=True):
    """One version and the text of its program."""

    code: str


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Results in the order of the items, then their counts."""

    results: tuple[flow.Result, ...]
    batch_id: str
    task_id: str
    total: int
    succeeded: int
    failed: int
    duration_ms: float


class Queues(msgspec.Struct, frozen=True, kw_only=True):
    queues: tuple[queues.QueueView, ...]


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A site had another program under a version than the registry says, which holds."""

    task: str
    version: int
    expected: str
    found: str
    at: datetime


class Site(msgspec.Struct, frozen=True, kw_only=True):
    site: str
    store: str
    versions: int
    missing: int
    """Versions whose text or place is not right yet."""
    lag_s: float
    """Age of the oldest change that was not followed."""
    conflicts: int
    latest_conflicts: tuple[Conflict, ...]
    reason: str
    updated_at: datetime


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    sites: tuple[Site, ...]


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    broker: str
    """`ok`, or what is wrong."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["healthy", "degraded"]
    version: str
    timestamp: datetime
    checks: Checks
    workers: dict[str, int]
    """Live processes by pool, and those that serve HTTP as `ingress`."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["alive"]
    version: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ready", "not ready"]
    checks: Checks


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[keys.KeyView, ...]


class Webhooks(msgspec.Struct, frozen=True, kw_only=True):
    webhooks: tuple[webhooks.WebhookView, ...]


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    deliveries: tuple[attempts.DeliveryView, ...]


class ServerSentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One of the events of a stream, as OpenAPI has them."""

    data: str | msgspec.UnsetType = msgspec.UNSET
    """JSON of what is followed, as it is then."""
    event: str | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that will be posted."""

    id: str
    type: str


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run, of the task that the subject names; what is left out a header may say."""

    input: msgspec.Raw
    version: int | None = None
    timeout_ms: int | None = None
    force_validation: bool | None = None
    routing_key: messages.RoutingKey | None = None


ENDED: Final = (views.ExecutionView, views.DeadView)
LOOKED: Final = (views.ExecutionView, views.QueuedView, views.DeadView)
