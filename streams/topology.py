"""STREAMS, CONSUMERS and BUCKETS as values; every limit with its unit and why.

`python -m streams show|diff|apply` prints them, compares a broker with them, and makes it so.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from streams import subjects
from streams.messages import Lane, Language, Runtime

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S

ITEMS_MAX: Final = 256
"""Items in one ExecuteBatch."""
BATCH_BYTES_MAX: Final = 256 * KIB
"""Inputs in one ExecuteBatch; a larger single input travels alone."""
MESSAGE_BYTES_MAX: Final = 4 * MIB
"""Largest message we publish: a record of one item holds its input and its output, 1 MiB each."""

ORIGINAL_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 64 * KIB
"""Largest message in a work queue: its dead letter holds it whole, with ids and a reason."""

ACK_WAIT_S: Final = 10.0
"""Silence after which a delivery goes to another worker. Long work sends `in_progress`."""
PROGRESS_S: Final = 3.0
"""How often a worker says so."""
MAX_DELIVER: Final = 5


RUNTIMES: Final[dict[Language, Runtime]] = {
    "python": "python",
    "javascript": "deno",
    "typescript": "deno",
}
"""What runs each language. Every executor has `python`; work for another is routed (ADR 0009)."""


class TopologyError(ValueError):
    """Two limits contradict each other, or a broker cannot be brought to the topology."""


if ACK_WAIT_S < 3 * PROGRESS_S:
    raise TopologyError("a delivery must survive two lost progress messages")
if MESSAGE_BYTES_MAX < 2 * BATCH_BYTES_MAX:
    raise TopologyError("the record of a batch must fit into one message")


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    subjects: tuple[str, ...]
    transform: tuple[str, str] | None = None
    """Messages that match the first are stored on the second (subject mapping, NATS ADR-36)."""
    retention: Literal["limits", "workqueue"]
    why: str
    max_age_s: float = 0.0
    """0: messages stay until consumed."""
    max_bytes: int
    messages_per_subject_max: int = -1
    """In a work queue the backlog cap of a task; in EXECUTE of each lane and queue, of which a task
    has two, and once more where routed. -1: none.
    """
    message_bytes_max: int = -1
    """Headers and payload; larger ones are refused. -1: what the broker takes."""
    duplicate_window_s: float = 120.0
    replicas: int = 1

    @property
    def discard(self) -> Literal["new", "old"]:
        """A full work queue refuses (a clear 503); a full log forgets its oldest."""
        return "new" if self.retention == "workqueue" else "old"


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pull consumer.

    `durable` is the pool's name, with the runtime and the lane where it has them.
    """

    durable: str
    stream: str
    filter_subject: str
    ack_wait_s: float = ACK_WAIT_S
    max_deliver: int = MAX_DELIVER
    """-1: until it is handled."""
    max_ack_pending: int
    """All slots of all workers of the pool: more would idle, fewer would starve them."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A KV bucket; values are JSON. `ttl_s` 0: for ever."""

    name: str
    why: str
    ttl_s: float = 0.0
    history: int = 1
    max_bytes: int = GIB
    replicas: int = 1

    @property
    def stream(self) -> str:
        return f"KV_{self.name}"


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    streams: tuple[Stream, ...]
    consumers: tuple[Consumer, ...]
    buckets: tuple[Bucket, ...]


LANES: Final[tuple[Lane, ...]] = ("interactive", "bulk")
EXECUTOR_ACK_PENDING_MAX: Final = 1024


def executor(lane: Lane, group: int, place: int) -> Consumer:
    """What executors take one queue of *lane* with."""
    return Consumer(
        durable=f"executor-{lane}-{group}-{place}",
        stream="EXECUTE",
        filter_subject=subjects.queued(lane, group, place),
        max_ack_pending=EXECUTOR_ACK_PENDING_MAX,
    )


def executor_routed(runtime: Runtime, lane: Lane, group: int) -> Consumer:
    """What executors that have *runtime* take one group of queues of *lane* with."""
    return Consumer(
        durable=f"executor-{runtime}-{lane}-{group}",
        stream="EXECUTE",
        filter_subject=subjects.routed_group(runtime, lane, group),
        max_ack_pending=EXECUTOR_ACK_PENDING_MAX,
    )


EXECUTORS: Final[dict[Runtime, dict[Lane, tuple[Consumer, ...]]]] = {
    "python": {
        lane: tuple(
            executor(lane, group, place)
            for group in range(subjects.TENANT_QUEUES)
            for place in range(subjects.TASK_QUEUES)
        )
        for lane in LANES
    },
    "deno": {
        lane: tuple(executor_routed("deno", lane, group) for group in range(subjects.TENANT_QUEUES))
        for lane in LANES
    },
}
"""What an executor that has a runtime pulls from, by lane.

Each queue more costs the broker 0.25 µs at every acknowledgement of EXECUTE (ADR 0015).
"""


def _each_executor() -> Iterator[Consumer]:
    for lanes in EXECUTORS.values():
        for found in lanes.values():
            yield from found


EXECUTE: Final = Stream(
    name="EXECUTE",
    subjects=(
        subjects.execute_lane("interactive"),
        subjects.execute_lane("bulk"),
        # What there is a consumer for, and nothing else: no message may lie where nobody takes it.
        *(each.filter_subject for each in _each_executor()),
    ),
    transform=(subjects.EXECUTE_PUBLISHED, subjects.EXECUTE_STORED),
    retention="workqueue",
    why="executions accepted and not yet recorded",
    message_bytes_max=ORIGINAL_BYTES_MAX,
    max_bytes=4 * GIB,
    messages_per_subject_max=10_000,
)
GENERATE: Final = Stream(
    name="GENERATE",
    subjects=(subjects.GENERATE_ALL,),
    retention="workqueue",
    why="generations accepted and not yet ended",
    message_bytes_max=ORIGINAL_BYTES_MAX,
    max_bytes=64 * MIB,
    messages_per_subject_max=100,
)
VALIDATE: Final = Stream(
    name="VALIDATE",
    subjects=(subjects.VALIDATE_ALL,),
    retention="workqueue",
    why="sampled executions for the oracle",
    message_bytes_max=ORIGINAL_BYTES_MAX,
    max_bytes=GIB,
    messages_per_subject_max=10_000,
)
RECORDS: Final = Stream(
    name="RECORDS",
    # Shadow runs beside the records: what compares the two reads one stream, in its order.
    subjects=(subjects.RECORD_ALL, subjects.SHADOW_ALL),
    retention="limits",
    why="the audit log: what happened to every execution, and in the shadow of it",
    max_age_s=30 * DAY_S,
    max_bytes=16 * GIB,
)
EVENTS: Final = Stream(
    name="EVENTS",
    subjects=(subjects.EVENT_ALL,),
    retention="limits",
    why="what monitoring shows; its sequence is the resume offset",
    max_age_s=72 * HOUR_S,
    max_bytes=512 * MIB,
)
DEAD: Final = Stream(
    name="DEAD",
    subjects=(subjects.DEAD_ALL,),
    retention="limits",
    why="what could not be handled, with the reason and the original",
    max_age_s=90 * DAY_S,
    max_bytes=GIB,
)
ADVISORIES: Final = Stream(
    name="ADVISORIES",
    subjects=subjects.ADVISORIES,
    retention="workqueue",
    why="the broker's word that a delivery was given up, until the recorder has moved it to DEAD",
    max_bytes=64 * MIB,
)
WEBHOOKS: Final = Stream(
    name="WEBHOOKS",
    subjects=(subjects.WEBHOOK_ALL,),
    retention="workqueue",
    why="events on their way to webhooks",
    max_bytes=GIB,
    # Of one webhook: what an endpoint that is away for long misses beyond that is dropped.
    messages_per_subject_max=1_000,
)
WEBHOOK_LOG: Final = Stream(
    name="WEBHOOK_LOG",
    subjects=(subjects.WEBHOOK_LOG_ALL,),
    retention="limits",
    why="what came of posting to webhooks, the last of each",
    max_age_s=7 * DAY_S,
    max_bytes=512 * MIB,
    messages_per_subject_max=200,
)
STREAMS: Final = (
    EXECUTE,
    GENERATE,
    VALIDATE,
    RECORDS,
    EVENTS,
    DEAD,
    ADVISORIES,
    WEBHOOKS,
    WEBHOOK_LOG,
)

GENERATOR: Final = Consumer(
    durable="generator",
    stream="GENERATE",
    filter_subject=subjects.GENERATE_ALL,
    max_ack_pending=64,
)
RECORDER: Final = Consumer(
    durable="recorder",
    stream="ADVISORIES",
    filter_subject=subjects.ADVISORY_ALL,
    # Nobody watches the watcher: an advisory given up would leave its message where it is.
    max_deliver=-1,
    max_ack_pending=64,
)
NOTIFIER: Final = Consumer(
    durable="notifier",
    stream="WEBHOOKS",
    filter_subject=subjects.WEBHOOK_ALL,
    # Whoever posts counts the attempts: giving back what cannot be posted yet is none.
    max_deliver=-1,
    # What waits for its next attempt counts as pending: as many as a hundred webhooks may have.
    max_ack_pending=100_000,
)
CONSUMERS: Final = (
    *_each_executor(),
    GENERATOR,
    RECORDER,
    NOTIFIER,
)

TASKS: Final = Bucket(name="tasks", why="tasks by <tenant>.<name>", history=5)
ARTIFACTS: Final = Bucket(name="artifacts", why="artifact versions by <task id>.<version>")
ROLLOUTS: Final = Bucket(name="rollouts", why="which version answers, by <task id>", history=5)
OPERATIONS: Final = Bucket(
    name="operations", why="generations by id", ttl_s=7 * DAY_S, max_bytes=256 * MIB
)
CANCELLATIONS: Final = Bucket(
    name="cancellations",
    why="executions that nobody wants any more, by id",
    ttl_s=HOUR_S,
    # Some 110,000 an hour; executors keep them in memory, in about three times as much.
    max_bytes=16 * MIB,
)
"""Longer than an execution may wait and run: `intake` and the settings of the API see to that."""
IDEMPOTENCY: Final = Bucket(
    name="idempotency",
    why="requests with an idempotency key, by the hash of tenant and key",
    ttl_s=DAY_S,
    # Two million executions; full, it refuses new keys with 503 rather than forget old ones.
    max_bytes=GIB,
)
WORKERS: Final = Bucket(
    name="workers", why="live workers by <pool>.<instance>", ttl_s=10.0, max_bytes=16 * MIB
)
SITES: Final = Bucket(
    name="sites",
    why="how far the store of each site follows the registry, by site",
    ttl_s=WORKERS.ttl_s,
    max_bytes=16 * MIB,
)
KEYS: Final = Bucket(
    name="keys",
    why="API keys by the SHA-256 of the key",
    # Some 600,000; every ingress keeps them in memory, in about three times as much.
    max_bytes=256 * MIB,
)
SUBSCRIPTIONS: Final = Bucket(
    name="webhooks", why="webhook subscriptions by <tenant>.<id>", max_bytes=64 * MIB
)
BUCKETS: Final = (
    TASKS,
    ARTIFACTS,
    ROLLOUTS,
    OPERATIONS,
    CANCELLATIONS,
    KEYS,
    IDEMPOTENCY,
    WORKERS,
    SITES,
    SUBSCRIPTIONS,
)

PRESENCE_S: Final = 3.0
"""How often a worker refreshes its presence."""
if WORKERS.ttl_s < 3 * PRESENCE_S:
    raise TopologyError("a worker's presence must survive two lost refreshes")


def topology(*, replicas: int = 1, execute_backlog_max: int | None = None) -> Topology:
    """The whole topology, with the two things that a deployment sets."""
    execute = EXECUTE
    if execute_backlog_max is not None:
        execute = msgspec.structs.replace(execute, messages_per_subject_max=execute_backlog_max)
    return Topology(
        streams=tuple(
            msgspec.structs.replace(stream, replicas=replicas) for stream in (execute, *STREAMS[1:])
        ),
        consumers=CONSUMERS,
        buckets=tuple(msgspec.structs.replace(bucket, replicas=replicas) for bucket in BUCKETS),
    )
