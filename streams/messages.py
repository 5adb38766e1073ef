"""Every Struct that travels on the bus or rests in its KV: one vocabulary.

What flows (streams, replies) is msgpack, and JSON inside it stays encoded: `EncodedJson`. What
rests (KV buckets) is JSON that a person can read with `nats kv get`, with `msgspec.Raw` where JSON
is nested (ADR 0005). New fields need defaults: tests/contract/ holds goldens of every message.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

EncodedJson: TypeAlias = bytes
"""UTF-8 JSON text, carried from the HTTP body to the program and back without decoding."""

ROUTING_KEY_CHARACTERS_MAX: Final = 256
RoutingKey = Annotated[str, msgspec.Meta(min_length=1, max_length=ROUTING_KEY_CHARACTERS_MAX)]
"""What a caller is told apart by, such as a user's id: one key lands on one side of a canary."""

Language = Literal["python", "javascript", "typescript", "csharp"]
ArtifactStatus = Literal["draft", "validated", "active", "deprecated", "failed"]
ExecutionStatus = Literal["success", "error", "timeout", "rejected", "cancelled"]
OperationStatus = Literal["queued", "running", "succeeded", "failed"]
Strategy = Literal["rule", "ml", "hybrid", "dsl", "auto", "manual"]
Isolation = Literal["shared", "batch", "call"]
RolloutAction = Literal[
    "activate", "rollback", "promote", "canary", "canary_off", "shadow", "shadow_off"
]
"""The first three change which version is active."""
Scope = Literal["execute", "author", "operate", "observe", "admin"]
"""What a caller may do; `admin` may do everything."""
Lane = Literal["interactive", "bulk"]
WebhookEvent = Literal[
    "execution.succeeded",
    "execution.failed",
    "execution.cancelled",
    "artifact.created",
    "artifact.activated",
    "artifact.rolled_back",
    "operation.finished",
]
"""What a webhook may be told of."""
Runtime = Literal["python", "deno"]
"""What runs the programs of one language or of several; `topology.RUNTIMES` says which."""


def any_json() -> msgspec.Raw:
    """The schema that every value fits. A factory: msgspec describes no default of its own Raw."""
    return msgspec.Raw(b"{}")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages; carries the Struct options and nothing else.

    What there are thousands of at a time has `gc=False`: frozen and made of scalars, it cannot be
    part of a cycle, and looking for one took 8 % of an ingress under batches.
    """


# --- tasks -------------------------------------------------------------------------------------


class Example(Message, frozen=True, kw_only=True):
    input: msgspec.Raw
    output: msgspec.Raw


class TaskSpecification(Message, frozen=True, kw_only=True):
    """A task as its author described it. `revision` is the KV revision it was read at."""

    id: str
    tenant: str
    name: str
    description: str = ""
    input_schema: msgspec.Raw = msgspec.field(default_factory=any_json)
    output_schema: msgspec.Raw = msgspec.field(default_factory=any_json)
    examples: tuple[Example, ...] = ()
    accuracy_target: float = 0.9
    latency_target_ms: float = 10.0
    sampling_rate: float = 0.1
    created_at: datetime
    updated_at: datetime
    revision: int = 0


class TaskHead(Message, frozen=True, kw_only=True):
    """The part of a TaskSpecification that every process keeps in memory: all but the examples."""

    id: str
    tenant: str
    name: str
    description: str = ""
    input_schema: msgspec.Raw = msgspec.field(default_factory=any_json)
    output_schema: msgspec.Raw = msgspec.field(default_factory=any_json)
    accuracy_target: float = 0.9
    created_at: datetime
    updated_at: datetime
    revision: int = 0


# --- artifacts and rollouts --------------------------------------------------------------------


class ComplexityMetrics(Message, frozen=True, kw_only=True):
    cyclomatic_complexity: int = 0
    lines_of_code: int = 0
    estimated_latency_ms: float = 0.0


class ClassScore(Message, frozen=True, kw_only=True):
    label: str
    precision: float
    recall: float
    support: int


class Evaluation(Message, frozen=True, kw_only=True):
    """How a program did on examples that its engine did not see."""

    examples_seen: int
    examples_held_out: int
    held_out_accuracy: float
    lower_bound: float
    """Lower end of the 95 % Wilson score interval of the held-out accuracy."""
    classes: tuple[ClassScore, ...] = ()
    tolerance: float | None = None
    """Largest absolute error that counts as right; None where outputs are compared exactly."""


class ProgramArtifact(Message, frozen=True, kw_only=True):
    """One immutable version of a program. The text lies in the artifact store under `digest`."""

    id: str
    task_id: str
    version: int
    language: Language
    digest: str
    size_bytes: int = 0
    synthesis_strategy: Strategy = "manual"
    engine: str = "manual"
    confidence_score: float | None = None
    complexity_metrics: ComplexityMetrics = ComplexityMetrics()
    evaluation: Evaluation | None = None
    llm_provider: str | None = None
    llm_model: str | None = None
    generation_cost: float = 0.0
    generation_time_sec: float = 0.0
    isolation: Isolation = "shared"
    status: ArtifactStatus = "draft"
    status_reason: str = ""
    created_at: datetime
    deployed_at: datetime | None = None
    created_by: str = ""


class RolloutChange(Message, frozen=True, kw_only=True):
    """One line of a rollout's history."""

    at: datetime
    by: str
    action: RolloutAction
    version: int
    """What it is about: of `canary_off` and `shadow_off` the version that it ended for."""
    previous: int | None = None
    """The version that had the same role before."""
    percent: float | None = None
    """Of a canary."""
    forced: bool = False
    """The version is a draft, or failed, and whoever did it insisted."""


class Canary(Message, frozen=True, kw_only=True):
    """A version that answers a share of the executions (ADR 0019)."""

    version: int
    percent: float
    """More than 0 and up to 100, in hundredths."""
    stage: int = 0
    started_at: datetime
    """When this version became the canary; a change of its share leaves it."""


class Rollout(Message, frozen=True, kw_only=True):
    """Which version of a task answers; changed by compare-and-set only."""

    task_id: str
    active: int | None = None
    canary: Canary | None = None
    shadow: int | None = None
    """Runs what has been answered once more; nobody is answered with it."""
    history: tuple[RolloutChange, ...] = ()


# --- execution ---------------------------------------------------------------------------------


class ExecuteItem(Message, frozen=True, kw_only=True, gc=False):
    """One input to run. `id` is a UUIDv7; its time is the time of acceptance."""

    id: str
    input: EncodedJson
    version: int | None = None
    """None: the version that the rollout says."""
    deadline_ms: int
    """Unix time in ms after which nobody waits and the item is not run."""
    force_validation: bool = False
    trace_id: str = ""
    routing_key: RoutingKey | None = None
    """Which side of a canary it is on; None: its id says."""


class ExecuteBatch(Message, frozen=True, kw_only=True):
    """Items for one (lane, tenant, task), named by the subject. Between 1 and 256 items."""

    items: tuple[ExecuteItem, ...]
    task_id: str | None = None
    """Fences a deleted task off from a new one of the same name; None from direct publishers."""
    validated: bool = False
    """The publisher has validated the inputs against the task's schema already."""


class ExecuteRequest(Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON form of direct publishers: `{"input": …}` with Content-Type: application/json."""

    input: msgspec.Raw
    id: str | None = None
    version: int | None = None
    timeout_ms: int | None = None
    force_validation: bool = False
    trace_id: str = ""
    routing_key: RoutingKey | None = None


class Cancellation(Message, frozen=True, kw_only=True):
    """That nobody wants the result of an execution of *tenant* any more; its id is the key."""

    tenant: str
    requested_at: datetime


class KeptAnswer(Message, frozen=True, kw_only=True):
    """What a request over HTTP was answered, for whoever sends it again."""

    status: int
    headers: dict[str, str] = {}
    body: str | None
    """None: it was larger than is kept."""
    scopes: tuple[Scope, ...] = ()
    """One of these it takes to have it, beside those of its route."""


class IdempotencyClaim(Message, frozen=True, kw_only=True):
    """That a request with an idempotency key was made; the hash of tenant and key is the key."""

    fingerprint: str
    """SHA-256 of method, path, query and body: another request may not have the same key."""
    tenant: str
    task: str = ""
    """Name of the task, of an execution; RECORDS has the answer. Else `answer` has it."""
    task_id: str = ""
    execution_id: str = ""
    timeout_ms: int = 0
    answer: KeptAnswer | None = None
    """None while the request is handled, by an ingress that renews the claim."""
    claimed_at: datetime


class ExecutionError(Message, frozen=True, kw_only=True, gc=False):
    """Why an execution has no output: `type` is a code, a kind or an exception's name."""

    type: str
    message: str
    outcome: str = ""
    """How the run in the cell ended, as one of a fixed list; empty where there was none."""
    line: int | None = None
    """Line of the program that raised or was running, where it is known."""
    traceback: str = ""
    """The program's own frames, in the order of its language: Python has the innermost last."""


class Latency(Message, frozen=True, kw_only=True, gc=False):
    """Milliseconds: `queue` from acceptance to the cell, `run` inside the cell, `total` of both."""

    queue: float
    run: float
    total: float


class ExecutionRecord(Message, frozen=True, kw_only=True, gc=False):
    """What happened to one ExecuteItem: the audit log's unit."""

    id: str
    tenant: str
    task: str
    task_id: str
    program_id: str | None = None
    version: int | None = None
    input: EncodedJson | None = None
    """None in some replies only: the caller knows what it sent."""
    output: EncodedJson | None = None
    status: ExecutionStatus
    error: ExecutionError | None = None
    latency_ms: Latency
    memory_usage_mb: float | None = None
    stdout: str = ""
    sampled_for_validation: bool = False
    attempt: int = 1
    worker: str = ""
    trace_id: str = ""
    executed_at: datetime
    shadow: bool = False
    """Run beside the answer, by the rollout's shadow version; its id is that of the answer."""


class RecordBatch(Message, frozen=True, kw_only=True):
    """Payload of RECORDS and of replies: the records of one delivery, in item order."""

    records: tuple[ExecutionRecord, ...]


# --- admission ---------------------------------------------------------------------------------


class AdmitRequest(Message, frozen=True, kw_only=True):
    """Whether a program may become a version, asked of a worker that has its runtime."""

    tenant: str
    language: Language
    code: str
    isolation: Isolation | None = None
    """What its author asks for; None leaves it to what is found."""
    inputs: tuple[EncodedJson, ...] = ()
    """What to try it on."""
    deadline_ms: int
    """Unix time in ms after which nobody waits for the answer."""
    trace_id: str = ""


class AdmitAnswer(Message, frozen=True, kw_only=True):
    """What a worker found. Only `admitted` says that the program may become a version."""

    status: Literal["admitted", "refused", "busy", "failed"]
    """`busy` and `failed` say nothing about the program: ask again."""
    reason: str = ""
    """In words, whatever the status."""
    line: int | None = None
    """Of the program, where it was refused for one."""
    isolation: Isolation = "shared"
    stateful: bool = False
    latency_ms: float = 0.0
    """Median time inside the cell."""


# --- generation --------------------------------------------------------------------------------


class GenerateRequest(Message, frozen=True, kw_only=True):
    operation_id: str
    task_id: str
    engine: str = "examples"
    strategy: Strategy = "auto"
    seed: int = 0
    activate: bool = True
    requested_at: datetime
    trace_id: str = ""


class Problem(Message, frozen=True, kw_only=True):
    """Why an operation failed: a code of `loopai/errors.py` and one sentence."""

    code: str
    message: str


class Operation(Message, frozen=True, kw_only=True):
    """Long work that a caller can look up: generation for now."""

    id: str
    kind: Literal["generate"] = "generate"
    tenant: str
    task: str
    task_id: str
    status: OperationStatus = "queued"
    stage: str = ""
    version: int | None = None
    activated: bool = False
    message: str = ""
    error: Problem | None = None
    created_at: datetime
    updated_at: datetime


# --- callers -----------------------------------------------------------------------------------


class ApiKey(Message, frozen=True, kw_only=True):
    """What is kept of an API key: everything but the key (ADR 0021)."""

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    hash: str
    """SHA-256 of the key, in hexadecimal digits."""
    last4: str
    """Its last four characters, so that people tell their keys apart."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    """None: never."""
    rate: str = ""
    """Requests, such as `100/second`; empty: as the settings of the ingress say."""
    quota: str = ""
    """Executions, such as `10000/day`; the same."""
    revoked_at: datetime | None = None
    revoked_by: str = ""


# --- the rest of the bus -----------------------------------------------------------------------


class Event(Message, frozen=True, kw_only=True):
    """Something worth showing. `sequence` is the EVENTS stream sequence, set by the reader."""

    kind: Literal["execution", "artifact", "error", "metric"]
    task: str
    tenant: str
    time: datetime
    sequence: int = 0
    data: EncodedJson = b"{}"


class DeadLetter(Message, frozen=True, kw_only=True):
    """A message that exhausted its deliveries or could not be handled, kept whole."""

    stream: str
    sequence: int
    subject: str
    reason: Literal["undecodable", "rejected", "max_deliveries"]
    detail: str
    deliveries: int
    headers: dict[str, str] = {}
    payload: bytes = b""
    execution_ids: tuple[str, ...] = ()
    dead_at: datetime


class DigestConflict(Message, frozen=True, kw_only=True):
    """A site had another program under a version than the registry says."""

    tenant: str
    task: str
    version: int
    expected: str
    """Digest in the registry, which holds."""
    found: str
    """Digest of what the site had, and has no more."""
    at: datetime


class SiteState(Message, frozen=True, kw_only=True):
    """How far the store of one site follows the registry."""

    site: str
    store: str
    """URL of its store, without secrets."""
    versions: int
    """In the registry."""
    missing: int
    """Of those, whose text or place in the site's store is not right yet."""
    lag_s: float
    """Age of the oldest change that the site has not followed; 0 where it has followed all."""
    conflicts: int
    """Since the syncer started."""
    latest: tuple[DigestConflict, ...] = ()
    """The newest conflicts, newest first."""
    reason: str = ""
    """Why the last thing that failed did; empty where nothing waits."""
    updated_at: datetime


class Webhook(Message, frozen=True, kw_only=True):
    """Who wants to be told of what, by a POST to *url*."""

    id: str
    tenant: str
    url: str
    events: tuple[WebhookEvent, ...]
    task: str | None = None
    """Name of the task that it is told of; None: of all of the tenant."""
    secret: str
    """`whsec_` and base64: the key of its signatures."""
    former_secret: str | None = None
    """Signs as well until `former_until`, while receivers change to the new one."""
    former_until: datetime | None = None
    description: str = ""
    enabled: bool = True
    disabled_reason: str = ""
    """Why it was disabled by itself; empty where somebody did it, or nobody."""
    since: datetime
    """What happened before is not told: when it was made, or enabled again."""
    created_at: datetime
    created_by: str = ""
    updated_at: datetime


class WebhookDelivery(Message, frozen=True, kw_only=True):
    """One event for one webhook, until it is posted or given up."""

    id: str
    """UUIDv7 made of the event and the webhook: the same however often it is delivered."""
    webhook_id: str
    type: str
    """A WebhookEvent, or `webhook.ping`."""
    body: EncodedJson
    """What is posted, byte for byte."""
    created_at: datetime
    attempt: int = 1
    due_at: datetime | None = None
    """Not to be posted before; None: at once."""


class WebhookAttempt(Message, frozen=True, kw_only=True):
    """One post of a delivery, and what came of it."""

    delivery: WebhookDelivery
    at: datetime
    outcome: Literal["succeeded", "retrying", "failed"]
    status_code: int | None = None
    """None where no answer came."""
    error: str = ""
    response: str = ""
    """How the body of the answer begins."""
    duration_ms: float
    next_at: datetime | None = None
    """When it is tried again."""


class WorkerPresence(Message, frozen=True, kw_only=True):
    """A live worker, refreshed in the `workers` bucket well inside its TTL."""

    pool: str
    instance: str
    host: str
    pid: int
    slots: int = 0
    languages: tuple[Language, ...] = ()
    started_at: datetime
    running: dict[str, int] = {}
    """Messages in hand, by stored subject; those with most where there are many."""
    rates: dict[str, float] = {}
    """Executions recorded per second over the last minute, likewise."""
