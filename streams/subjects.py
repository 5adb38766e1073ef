"""The only place where a dotted subject is spelled.

Tokens are names of tenants and tasks: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, and `.` travels as `%2E`.
"""

import re
from typing import Final

from streams.messages import Lane, Runtime

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a tenant or a task may be called; match it whole."""

GENERATE_ALL: Final = "loopai.v1.generate.>"
VALIDATE_ALL: Final = "loopai.v1.validate.>"
RECORD_ALL: Final = "loopai.v1.record.>"
SHADOW_ALL: Final = "loopai.v1.shadow.>"
EVENT_ALL: Final = "loopai.v1.event.>"
DEAD_ALL: Final = "loopai.v1.dead.>"
WEBHOOK_ALL: Final = "loopai.v1.webhook.>"
WEBHOOK_LOG_ALL: Final = "loopai.v1.webhook_log.>"
PROGRAM_ALL: Final = "loopai.v1.program.*"
REPLY_ALL: Final = "loopai.v1.reply.>"
CALL_ALL: Final = "loopai.v1.call.*.*"
ADVISORY_ALL: Final = "$JS.EVENT.ADVISORY.CONSUMER.>"

# Work-queue streams only: consumers of limits streams may come and go without anything being lost.
ADVISORIES: Final = tuple(
    f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{stream}.>"
    for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
    for stream in ("EXECUTE", "GENERATE", "VALIDATE")
)

REPLY_TO: Final = "Loopai-Reply-To"
"""Header with the subject that the result goes to: a plain reply-to would catch the publish ack."""
REPLY_TYPE: Final = "Loopai-Reply-Type"
"""Header with the content type of the answer, where it differs from that of the message."""
ROUTED_FROM: Final = "Loopai-Routed-From"
"""Header of a routed message: the sequence of the message that it is the copy of (ADR 0009)."""
RECORDED_SINCE: Final = "Loopai-Recorded-Since"
"""Header of a routed message: some of its items may be recorded since this time (ISO 8601)."""
CONTENT_TYPE: Final = "Content-Type"
MESSAGE_ID: Final = "Nats-Msg-Id"


_INBOX: Final = "_INBOX"
_TENANT_INBOX: Final = f"{_INBOX}.tenant."
_SUBJECT: Final = re.compile(r"(?!\$)[^\s.*>\x00]+(\.[^\s.*>\x00]+)*")
"""One to publish to: no wildcards, no empty tokens, none of the broker's own."""
_TOKENS: Final = {"execute": {6, 8}, "event": {6}, "dead": {6}, "routed": {9}}
"""Of subjects that have more than a kind before the tenant: a lane, a stream, a runtime, queues."""
_TOKENS_ELSE: Final = {5}

TENANT_QUEUES: Final = 8
"""A lane has so many groups of queues; a tenant belongs to one of them (ADR 0015)."""
TASK_QUEUES: Final = 4
"""A group has so many queues; a task belongs to one of them."""


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def token(name: str) -> str:
    """*name* as one subject token. ValueError when it is not a name."""
    if not is_name(name):
        raise ValueError(f"not a name: {name[:130]!r}")
    return name.replace(".", "%2E")


def name(subject_token: str) -> str:
    return subject_token.replace("%2E", ".")


def execute(lane: Lane, tenant: str, task: str) -> str:
    return f"loopai.v1.execute.{lane}.{token(tenant)}.{token(task)}"


def execute_lane(lane: Lane) -> str:
    """What publishers of *lane* publish on: EXECUTE captures it."""
    return f"loopai.v1.execute.{lane}.*.*"


# EXECUTE stores each message on the subject of its queue: `execute` with two numbers after the
# lane, which the broker reckons from the tenant's token and from the task's (ADR 0015).
EXECUTE_PUBLISHED: Final = "loopai.v1.execute.*.*.*"
EXECUTE_STORED: Final = (
    f"loopai.v1.execute.{{{{wildcard(1)}}}}.{{{{partition({TENANT_QUEUES},2)}}}}."
    f"{{{{partition({TASK_QUEUES},3)}}}}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}"
)


def queue(tenant: str, task: str) -> tuple[int, int]:
    """The numbers of the queue of *task*: its group and its place there, as the broker has them."""
    return _fnv(token(tenant)) % TENANT_QUEUES, _fnv(token(task)) % TASK_QUEUES


def queues(tenant: str, task: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """The queue of *task*, and a second one in another group and at another place."""
    group, place = queue(tenant, task)
    other = _fnv(f"{tenant} {task}")
    return (group, place), (
        (group + 1 + other % (TENANT_QUEUES - 1)) % TENANT_QUEUES,
        (place + 1 + other // TENANT_QUEUES % (TASK_QUEUES - 1)) % TASK_QUEUES,
    )


def placed(lane: Lane, queue: tuple[int, int], tenant: str, task: str) -> str:
    """An execution in *queue*: as it is stored, and to publish it there rather than in its own."""
    group, place = queue
    return f"loopai.v1.execute.{lane}.{group}.{place}.{token(tenant)}.{token(task)}"


def queue_of(subject: str) -> tuple[int, int]:
    """Group and place of *subject*, a stored one that is not routed."""
    _, _, _, _, group, place, *_ = subject.split(".")
    return int(group), int(place)


def queued_lane(lane: Lane) -> str:
    """What all queues of *lane* hold."""
    return f"loopai.v1.execute.{lane}.*.*.*.*"


def queued(lane: Lane, group: int, place: int) -> str:
    """What one queue of *lane* holds."""
    return f"loopai.v1.execute.{lane}.{group}.{place}.*.*"


def queued_task(lane: str, tenant: str, task: str) -> str:
    """What waits of one task in *lane*, or in all (`*`)."""
    return f"loopai.v1.execute.{lane}.*.*.{token(tenant)}.{token(task)}"


def queued_tenant(tenant: str) -> str:
    return f"loopai.v1.execute.*.*.*.{token(tenant)}.*"


def routed(runtime: Runtime, subject: str) -> str:
    """Where the execution on *subject*, a stored one, waits for a worker that has *runtime*.

    Only workers publish here.
    """
    return f"loopai.v1.routed.{runtime}.{subject.removeprefix('loopai.v1.execute.')}"


def routed_group(runtime: Runtime, lane: Lane, group: int) -> str:
    """What a group of queues of *lane* holds for workers that have *runtime*."""
    return f"loopai.v1.routed.{runtime}.{lane}.{group}.*.*.*"


def routed_task(tenant: str, task: str, *, runtime: str = "*", lane: str = "*") -> str:
    return f"loopai.v1.routed.{runtime}.{lane}.*.*.{token(tenant)}.{token(task)}"


def routed_tenant(tenant: str) -> str:
    return f"loopai.v1.routed.*.*.*.*.{token(tenant)}.*"


def is_execution(subject: str) -> bool:
    """Whether EXECUTE stores messages on *subject*."""
    return subject.startswith(("loopai.v1.execute.", "loopai.v1.routed."))


def is_routed(subject: str) -> bool:
    return subject.startswith("loopai.v1.routed.")


def runtime(subject: str) -> str | None:
    """What a routed subject waits for; None where it is not routed."""
    return subject.split(".")[3] if is_routed(subject) else None


def lane(subject: str) -> str:
    """The lane of an execution's subject, public or routed."""
    return subject.split(".")[4 if is_routed(subject) else 3]


def generate(tenant: str, task: str) -> str:
    return f"loopai.v1.generate.{token(tenant)}.{token(task)}"


def record(tenant: str, task: str) -> str:
    return f"loopai.v1.record.{token(tenant)}.{token(task)}"


def records(tenant: str, task: str | None) -> str:
    """Filter on the records of one task, or of all tasks of *tenant*."""
    return record(tenant, task) if task else f"loopai.v1.record.{token(tenant)}.>"


def shadow(tenant: str, task: str) -> str:
    """Runs of the shadow version, which nobody was answered with (ADR 0019)."""
    return f"loopai.v1.shadow.{token(tenant)}.{token(task)}"


def shadows(tenant: str, task: str | None) -> str:
    """Filter on the shadow runs of one task, or of all tasks of *tenant*."""
    return shadow(tenant, task) if task else f"loopai.v1.shadow.{token(tenant)}.>"


def event(kind: str, tenant: str, task: str) -> str:
    return f"loopai.v1.event.{kind}.{token(tenant)}.{token(task)}"


def dead(stream: str, tenant: str, task: str) -> str:
    return f"loopai.v1.dead.{stream}.{token(tenant)}.{token(task)}"


def dead_all(stream: str) -> str:
    return f"loopai.v1.dead.{stream}.*.*"


def dead_tenant(tenant: str) -> str:
    return f"loopai.v1.dead.*.{token(tenant)}.>"


def reply(pool: str, instance: str) -> str:
    """Where an *instance* of *pool* gets the results that its callers wait for."""
    return f"loopai.v1.reply.{token(pool)}.{token(instance)}"


def call(tenant: str, task: str) -> str:
    """Where a gateway answers a plain request with the result; no stream captures it."""
    return f"loopai.v1.call.{token(tenant)}.{token(task)}"


def inbox(role: str) -> str:
    """What the inboxes of *role* begin with: no other role may read there (ADR 0023)."""
    return f"{_INBOX}.{role}" if role else _INBOX


def tenant_inbox(tenant: str) -> str:
    """What the inboxes of the clients of *tenant* begin with."""
    return f"{_TENANT_INBOX}{token(tenant)}"


def webhook(tenant: str, webhook_id: str) -> str:
    """Deliveries of one webhook that are to be posted."""
    return f"loopai.v1.webhook.{token(tenant)}.{token(webhook_id)}"


def webhook_log(tenant: str, webhook_id: str) -> str:
    """What came of posting them."""
    return f"loopai.v1.webhook_log.{token(tenant)}.{token(webhook_id)}"


def admit(runtime: Runtime) -> str:
    """Where workers that have *runtime* say whether a program may run; no stream captures it."""
    return f"loopai.v1.admit.{runtime}"


def program(digest: str) -> str:
    """Where sites that have the text of *digest* answer with it; no stream captures it."""
    return f"loopai.v1.program.{digest}"


def reply_to(headers: dict[str, str], tenant: str) -> str | None:
    """Where *headers* of a message of *tenant* ask for the answer; None where nowhere, or not so.

    See `is_answerable`.
    """
    subject = headers.get(REPLY_TO, "")
    return subject if is_answerable(subject, tenant) else None


def is_answerable(subject: str, tenant: str) -> bool:
    """Whether an answer to somebody of *tenant* may go to *subject*, which they have chosen.

    Answers are written with a worker's rights: they go to no subject of the broker (`$…`), to none
    of ours but the replies of an ingress or a gateway, and to no inbox of another tenant.
    """
    ours = subject.startswith("loopai.") and not subject.startswith("loopai.v1.reply.")
    if ours or _SUBJECT.fullmatch(subject) is None:
        return False
    if not subject.startswith(_TENANT_INBOX):
        return True
    return subject.startswith(f"{tenant_inbox(tenant)}.")


def owner(subject: str) -> tuple[str, str]:
    """(tenant, task): the last two tokens of any subject above. ValueError if they are no names."""
    tokens = subject.split(".")
    expected = _TOKENS.get(tokens[2] if len(tokens) > 2 else "", _TOKENS_ELSE)  # noqa: PLR2004
    if len(tokens) not in expected or tokens[:2] != ["loopai", "v1"]:
        raise ValueError(f"expected loopai.v1.<kind>.….<tenant>.<task>, not {subject[:200]!r}")
    tenant, task = name(tokens[-2]), name(tokens[-1])
    for each in (tenant, task):
        if not is_name(each):
            raise ValueError(f"not a name: {each[:130]!r}")
    return tenant, task


def _fnv(text: str) -> int:
    """FNV-1a of 32 bits, which the broker's `partition` takes its numbers from."""
    found = 0x811C9DC5
    for byte in text.encode():
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return found


def task_key(tenant: str, task: str) -> str:
    """Key in the `tasks` bucket; clients of NATS refuse `%` in keys, so `.` rests as `=2E`."""
    return f"{token(tenant)}.{token(task)}".replace("%", "=")


def webhook_key(tenant: str, webhook_id: str) -> str:
    """Key in the `webhooks` bucket: nobody finds another tenant's by its id."""
    return task_key(tenant, webhook_id)


def artifact_key(task_id: str, version: int) -> str:
    return f"{task_id}.{version}"


def worker_key(pool: str, instance: str) -> str:
    return f"{pool}.{instance}"
