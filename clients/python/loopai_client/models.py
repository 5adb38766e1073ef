"""What the API answers. Fields that a newer server adds are ignored."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from loopai_client import errors


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers; carries the Struct options and nothing else."""


class Task(Model, frozen=True, kw_only=True):
    id: str
    name: str
    tenant: str = ""
    description: str = ""
    input_schema: Any = None
    output_schema: Any = None
    examples: list[dict[str, Any]] = []
    """Each has `input` and `output`; empty in a list of tasks."""
    accuracy_target: float | None = None
    latency_target_ms: float | None = None
    sampling_rate: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    revision: int = 0
    """What `if_match` takes."""


class OperationError(Model, frozen=True, kw_only=True):
    code: str = ""
    message: str = ""


class Operation(Model, frozen=True, kw_only=True):
    """Work that goes on by itself, such as generating a program."""

    id: str
    status: str
    """`queued`, `running`, `succeeded` or `failed`."""
    kind: str = ""
    tenant: str = ""
    task: str = ""
    task_id: str | None = None
    stage: str = ""
    version: int | None = None
    activated: bool = False
    message: str = ""
    error: OperationError | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("succeeded", "failed")


OnProgress = Callable[[Operation], None]


class Artifact(Model, frozen=True, kw_only=True):
    """One version of a task's program."""

    id: str
    version: int
    task_id: str = ""
    language: str = ""
    digest: str = ""
    size_bytes: int = 0
    status: str = ""
    status_reason: str = ""
    isolation: str = ""
    engine: str = ""
    confidence_score: float | None = None
    evaluation: dict[str, Any] | None = None
    complexity_metrics: dict[str, Any] | None = None
    code: str | None = None
    """The program; None in a list."""
    created_at: datetime | None = None
    deployed_at: datetime | None = None
    created_by: str = ""


class Canary(Model, frozen=True, kw_only=True):
    version: int
    percent: float = 0.0
    stage: int = 0
    started_at: datetime | None = None


class RolloutChange(Model, frozen=True, kw_only=True):
    action: str
    at: datetime | None = None
    by: str = ""
    version: int | None = None
    previous: int | None = None
    percent: float | None = None
    forced: bool = False


class Rollout(Model, frozen=True, kw_only=True):
    """Which versions of a task answer."""

    task_id: str = ""
    active: int | None = None
    canary: Canary | None = None
    shadow: int | None = None
    history: list[RolloutChange] = []


class Latency(Model, frozen=True, kw_only=True):
    queue: float = 0.0
    run: float = 0.0
    total: float = 0.0


class ProgramError(Model, frozen=True, kw_only=True):
    """Why there is no output."""

    type: str = ""
    message: str = ""
    outcome: str = ""
    line: int | None = None
    traceback: str = ""


class Execution(Model, frozen=True, kw_only=True):
    """How an execution stands, or ended."""

    id: str | None
    """None for an item of a batch that was never sent."""
    status: str
    """`success`, `error`, `timeout`, `rejected`, `cancelled`; before: `queued` or `cancelling`."""
    task: str | None = None
    task_id: str | None = None
    program_id: str | None = None
    version: int | None = None
    input: Any = None
    output: Any = None
    error_message: str | None = None
    error: ProgramError | None = None
    latency_ms: float | None = None
    latency: Latency | None = None
    memory_usage_mb: float | None = None
    stdout: str = ""
    sampled_for_validation: bool = False
    attempt: int | None = None
    trace_id: str | None = None
    executed_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ("queued", "cancelling")

    def raise_for_error(self) -> "Execution":
        """This execution, if it has an output. ExecutionFailed."""
        if self.status == "success":
            return self
        raise errors.ExecutionFailed(
            f"execution {self.id}: {self.status}: {self.error_message or 'no output yet'}", self
        )


class ItemResult(Model, frozen=True, kw_only=True):
    """What became of one item of a batch."""

    id: str
    """The item's own."""
    status: str
    execution_id: str | None = None
    version: int | None = None
    output: Any = None
    error_message: str | None = None
    error: ProgramError | None = None
    latency_ms: float | None = None
    sampled_for_validation: bool = False

    def raise_for_error(self) -> "ItemResult":
        """This result, if it has an output. ExecutionFailed."""
        if self.status == "success":
            return self
        raise errors.ExecutionFailed(
            f"item {self.id}: {self.status}: {self.error_message or 'no output'}", self
        )


class BatchResult(Model, frozen=True, kw_only=True):
    """Results in the order of the items."""

    results: list[ItemResult]
    batch_id: str = ""
    task_id: str = ""
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    duration_ms: float = 0.0


class Event(Model, frozen=True, kw_only=True):
    """One Server-Sent Event."""

    kind: str
    data: Any
    id: str = ""


class Queue(Model, frozen=True, kw_only=True):
    """What is queued and running of one task in one lane."""

    task: str
    lane: str = ""
    runtime: str | None = None
    queued: int = 0
    running: int = 0
    oldest_s: float | None = None
    rate: float = 0.0


class Site(Model, frozen=True, kw_only=True):
    """How far the store of one site follows the registry."""

    site: str
    store: str = ""
    versions: int = 0
    missing: int = 0
    lag_s: float = 0.0
    conflicts: int = 0
    latest_conflicts: list[dict[str, Any]] = []
    reason: str = ""
    updated_at: datetime | None = None


class Health(Model, frozen=True, kw_only=True):
    status: str
    """`healthy` or `degraded`."""
    version: str = ""
    timestamp: datetime | None = None
    checks: dict[str, Any] = {}
    workers: dict[str, int] = {}


class ApiKey(Model, frozen=True, kw_only=True):
    id: str
    name: str = ""
    tenant: str = ""
    scopes: list[str] = []
    last4: str = ""
    key: str | None = None
    """The key itself, in the answer that made it and no other."""
    created_at: datetime | None = None
    created_by: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str = ""


class Webhook(Model, frozen=True, kw_only=True):
    id: str
    url: str = ""
    events: list[str] = []
    task: str | None = None
    description: str = ""
    enabled: bool = True
    disabled_reason: str = ""
    secret: str | None = None
    """In the answer that made it and no other."""
    former_secret_until: datetime | None = None
    created_at: datetime | None = None
    created_by: str = ""
    updated_at: datetime | None = None


class Attempt(Model, frozen=True, kw_only=True):
    number: int = 0
    at: datetime | None = None
    status_code: int | None = None
    error: str | None = None
    response: str | None = None
    duration_ms: float | None = None


class Delivery(Model, frozen=True, kw_only=True):
    """A post to a webhook."""

    id: str
    type: str = ""
    status: str = ""
    """`succeeded`, `retrying` or `failed`."""
    created_at: datetime | None = None
    next_attempt_at: datetime | None = None
    attempts: list[Attempt] = []


class Tasks(Model, frozen=True, kw_only=True):
    tasks: list[Task]


class Artifacts(Model, frozen=True, kw_only=True):
    artifacts: list[Artifact]


class Queues(Model, frozen=True, kw_only=True):
    queues: list[Queue]


class Sites(Model, frozen=True, kw_only=True):
    sites: list[Site]


class ApiKeys(Model, frozen=True, kw_only=True):
    keys: list[ApiKey]


class Webhooks(Model, frozen=True, kw_only=True):
    webhooks: list[Webhook]


class Deliveries(Model, frozen=True, kw_only=True):
    deliveries: list[Delivery]


class Accepted(Model, frozen=True, kw_only=True):
    id: str
