"""What there is to say of each subject of the bus: what travels there, from whom to whom."""

from typing import Any, Final, get_args

import msgspec

from loopai import views
from loopai.ingress.describe import shapes
from streams import messages, subjects, topology

LANES: Final = get_args(messages.Lane)
RUNTIMES: Final = get_args(messages.Runtime)
PARAMETERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "lane": ("One queue never holds up the other.", LANES),
    "tenant": ("Name of a tenant, with `%2E` for a dot.", ()),
    "task": ("Name of a task, with `%2E` for a dot.", ()),
    "group": ("Group of queues, which the tenant's name chooses.", ()),
    "place": ("Queue of the group, which the task's name chooses.", ()),
    "runtime": ("What runs the program.", RUNTIMES),
    "kind": ("What happened.", ("execution", "artifact", "error", "metric")),
    "stream": ("Where the original was.", ("EXECUTE", "GENERATE", "VALIDATE")),
    "webhook": ("Id of a webhook.", ()),
    "pool": ("What is answered.", ("ingress", "gateway")),
    "instance": ("Name of one of its processes.", ()),
    "digest": ("SHA-256 of the text of a program, in hexadecimal.", ()),
    "key": ("Key in the bucket.", ()),
}
"""Each part of an address that varies, and its values where they are few."""

_EXECUTION: Final = (subjects.CONTENT_TYPE, subjects.REPLY_TO, subjects.MESSAGE_ID)
_ROUTED: Final = (
    *_EXECUTION,
    subjects.ROUTED_FROM,
    subjects.RECORDED_SINCE,
    subjects.REPLY_TYPE,
)
_TOLD: Final = {
    "Version": "`version`, where the payload has none.",
    "Timeout-Ms": "`timeout_ms`, where the payload has none.",
    "Force-Validation": "`force_validation`, where the payload has none.",
    "Routing-Key": "`routing_key`, where the payload has none.",
}
_CALL: Final = ("traceparent", *(f"Loopai-{each}" for each in _TOLD))
_REFUSED: Final = ("Nats-Service-Error", "Nats-Service-Error-Code", "Retry-After")
HEADERS: Final = {
    subjects.CONTENT_TYPE: "`application/json` for the JSON form; msgpack without it.",
    subjects.REPLY_TO: "Subject that the answer goes to; nobody is answered without it.",
    subjects.REPLY_TYPE: "Content type of the answer, where it is not that of the message.",
    subjects.MESSAGE_ID: "Stored once, however often it is published within two minutes.",
    subjects.ROUTED_FROM: "Sequence of the message that this is the copy of.",
    **{f"Loopai-{name}": text for name, text in _TOLD.items()},
    "traceparent": "W3C Trace Context: its trace id is kept in answers, records and logs.",
    "Nats-Service-Error": "What is wrong, in ASCII; the payload has all of it.",
    "Nats-Service-Error-Code": "The HTTP status of the problem.",
    "Retry-After": "Seconds to wait before trying again.",
    subjects.RECORDED_SINCE: "A time since which some of its items may be recorded.",
}
MSGPACK: Final = "application/vnd.msgpack"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """One form that messages of a channel have."""

    type: Any  # any: whatever msgspec makes a schema of
    media: str = MSGPACK
    headers: tuple[str, ...] = ()
    """Names in HEADERS."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    subject: str | None
    """With a name in braces for each part that varies; None: one of the caller's choice."""
    summary: str
    forms: tuple[Form, ...]
    sent_by: tuple[str, ...]
    taken_by: tuple[str, ...]
    answer: str = ""
    """Id of the channel that answers come on."""
    bucket: str = ""


def _varying(subject: str) -> str:
    """*subject* with its parts in capitals as names in braces."""
    return ".".join(
        f"{{{part.lower()}}}" if part.lower() in PARAMETERS and part.isupper() else part
        for part in subject.split(".")
    )


_LANE: Final[Any] = "LANE"  # any: stands for each of them
_RUNTIME: Final[Any] = "RUNTIME"  # any: likewise
_WHO: Final = ("TENANT", "TASK")
CHANNELS: Final = (
    Channel(
        id="execute",
        subject=_varying(subjects.execute(_LANE, *_WHO)),
        summary="Executions to run, in a work queue. Publish with JetStream and wait for its "
        "acknowledgement: from then on each ends in RECORDS or DEAD.",
        forms=(
            Form(type=messages.ExecuteBatch, headers=_EXECUTION),
            Form(type=messages.ExecuteRequest, media=JSON, headers=_EXECUTION),
        ),
        sent_by=("client", "ingress", "gateway"),
        taken_by=("executor",),
        answer="answer",
    ),
    Channel(
        id="queued",
        subject=_varying(f"loopai.v1.execute.LANE.GROUP.PLACE.{'.'.join(_WHO)}"),
        summary="The same as they are stored, in one of the queues of the lane.",
        forms=(Form(type=messages.ExecuteBatch, headers=_EXECUTION),),
        sent_by=("ingress", "gateway"),
        taken_by=("executor",),
    ),
    Channel(
        id="routed",
        subject=_varying(
            subjects.routed(_RUNTIME, f"loopai.v1.execute.LANE.GROUP.PLACE.{'.'.join(_WHO)}")
        ),
        summary="Executions on their way to a worker that has the runtime.",
        forms=(Form(type=messages.ExecuteBatch, headers=_ROUTED),),
        sent_by=("executor",),
        taken_by=("executor",),
    ),
    Channel(
        id="generate",
        subject=_varying(subjects.generate(*_WHO)),
        summary="Programs to make, in a work queue.",
        forms=(Form(type=messages.GenerateRequest, headers=(subjects.MESSAGE_ID,)),),
        sent_by=("ingress",),
        taken_by=("generator",),
    ),
    Channel(
        id="record",
        subject=_varying(subjects.record(*_WHO)),
        summary="The audit log: every execution, before anybody is told its result.",
        forms=(Form(type=messages.RecordBatch, headers=(subjects.MESSAGE_ID,)),),
        sent_by=("executor",),
        taken_by=("client", "ingress", "gateway", "notifier"),
    ),
    Channel(
        id="shadow",
        subject=_varying(subjects.shadow(*_WHO)),
        summary="What shadow versions gave, beside the answers.",
        forms=(Form(type=messages.RecordBatch, headers=(subjects.MESSAGE_ID,)),),
        sent_by=("executor",),
        taken_by=("client",),
    ),
    Channel(
        id="event",
        subject=_varying(subjects.event("KIND", *_WHO)),
        summary="What monitoring shows; for watching, not for accounting.",
        forms=(Form(type=messages.Event),),
        sent_by=("executor", "generator"),
        taken_by=("client", "hub"),
    ),
    Channel(
        id="dead",
        subject=_varying(subjects.dead("STREAM", *_WHO)),
        summary="What could not be handled, with the reason and the original.",
        forms=(Form(type=messages.DeadLetter),),
        sent_by=("executor", "generator", "recorder"),
        taken_by=("client", "ingress", "notifier"),
    ),
    Channel(
        id="reply",
        subject=_varying(subjects.reply("POOL", "INSTANCE")),
        summary="Answers to one ingress or gateway, without the inputs.",
        forms=(Form(type=messages.RecordBatch),),
        sent_by=("executor", "recorder"),
        taken_by=("ingress", "gateway"),
    ),
    Channel(
        id="answer",
        subject=None,
        summary=f"Answers to whoever names a subject in `{subjects.REPLY_TO}`: in JSON a message "
        "for each execution, in msgpack for each batch.",
        forms=(
            Form(type=messages.RecordBatch),
            Form(type=views.ExecutionView, media=JSON),
            Form(type=views.DeadView, media=JSON),
        ),
        sent_by=("executor", "recorder"),
        taken_by=("client",),
    ),
    Channel(
        id="admit",
        subject=_varying(subjects.admit(_RUNTIME)),
        summary="Whether a program may become a version: a plain request, which no stream keeps.",
        forms=(Form(type=messages.AdmitRequest),),
        sent_by=("ingress", "generator"),
        taken_by=("executor",),
        answer="admitted",
    ),
    Channel(
        id="admitted",
        subject=None,
        summary="What a worker found of a program.",
        forms=(Form(type=messages.AdmitAnswer),),
        sent_by=("executor",),
        taken_by=("ingress", "generator"),
    ),
    Channel(
        id="call",
        subject=_varying(subjects.call(*_WHO)),
        summary="An execution as a plain request: the gateway publishes it and answers with the "
        "result. JSON, or msgpack with `Content-Type: application/msgpack`.",
        forms=(Form(type=shapes.Call, media=JSON, headers=_CALL),),
        sent_by=("client",),
        taken_by=("gateway",),
        answer="called",
    ),
    Channel(
        id="called",
        subject=None,
        summary="The answer to a call: an execution, or the problem document that HTTP would give.",
        forms=(
            Form(type=views.ExecutionView, media=JSON),
            Form(type=shapes.ProblemDocument, media=PROBLEM, headers=_REFUSED),
        ),
        sent_by=("gateway",),
        taken_by=("client",),
    ),
    Channel(
        id="webhook",
        subject=_varying(subjects.webhook("TENANT", "WEBHOOK")),
        summary="Events on their way to a webhook, in a work queue.",
        forms=(Form(type=messages.WebhookDelivery, headers=(subjects.MESSAGE_ID,)),),
        sent_by=("ingress", "notifier"),
        taken_by=("notifier",),
    ),
    Channel(
        id="webhook_log",
        subject=_varying(subjects.webhook_log("TENANT", "WEBHOOK")),
        summary="What came of posting them.",
        forms=(Form(type=messages.WebhookAttempt),),
        sent_by=("notifier",),
        taken_by=("ingress",),
    ),
    Channel(
        id="program",
        subject=_varying(subjects.program("DIGEST")),
        summary="A plain request, without a payload, for the text of a program; its answer is the "
        "text. Sites that do not have it are silent.",
        forms=(Form(type=bytes, media="application/octet-stream"),),
        sent_by=("ingress", "executor", "generator", "syncer"),
        taken_by=("syncer",),
    ),
)
_RESTS: Final[dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]]] = {
    topology.TASKS.name: (
        messages.TaskSpecification,
        ("ingress",),
        ("ingress", "gateway", "executor", "generator", "notifier"),
    ),
    topology.ARTIFACTS.name: (
        messages.ProgramArtifact,
        ("ingress", "generator"),
        ("executor", "syncer", "gateway", "notifier"),
    ),
    topology.ROLLOUTS.name: (
        messages.Rollout,
        ("ingress", "generator"),
        ("executor", "gateway", "notifier"),
    ),
    topology.OPERATIONS.name: (
        messages.Operation,
        ("ingress", "generator", "recorder"),
        ("ingress", "notifier"),
    ),
    topology.CANCELLATIONS.name: (messages.Cancellation, ("ingress",), ("executor",)),
    topology.WORKERS.name: (
        messages.WorkerPresence,
        ("executor", "generator", "recorder", "syncer", "ingress", "gateway", "notifier"),
        ("ingress", "gateway", "executor"),
    ),
    topology.SITES.name: (messages.SiteState, ("syncer",), ("ingress",)),
    topology.KEYS.name: (messages.ApiKey, ("ingress",), ("ingress",)),
    topology.IDEMPOTENCY.name: (messages.IdempotencyClaim, ("ingress",), ("ingress",)),
    topology.SUBSCRIPTIONS.name: (
        messages.Webhook,
        ("ingress", "notifier"),
        ("ingress", "notifier"),
    ),
}
"""Of each bucket: what rests there, who writes it and who watches it."""


def all_channels() -> tuple[Channel, ...]:
    """Those above, and one for each bucket of the topology."""
    return (*CHANNELS, *map(_of_bucket, topology.BUCKETS))


def _of_bucket(bucket: topology.Bucket) -> Channel:
    kind, sent_by, taken_by = _RESTS.get(bucket.name, (dict[str, Any], (), ()))
    return Channel(
        id=f"kv_{bucket.name}",
        subject=f"$KV.{bucket.name}.{{key}}",
        summary=f"The KV bucket `{bucket.name}`: {bucket.why}. Read and watch it as you like; "
        "change it through the API only.",
        forms=(Form(type=kind, media=JSON),),
        sent_by=sent_by,
        taken_by=taken_by,
        bucket=bucket.name,
    )
