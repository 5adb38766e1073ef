"""What each role may do on the bus, no more, as values and as a configuration of nats-server.

`python -m streams permissions` prints the latter (ADR 0023).
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

from streams import subjects, topology

Proof = Literal["password", "nkey"]

API: Final = "$JS.API"
DISCOVERY: Final = ("$SRV.PING", "$SRV.INFO", "$SRV.STATS", "$SRV.*.loopai", "$SRV.*.loopai.*")
"""Where instances of a service are asked who they are."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """Subjects that a role may publish to and subscribe to, beside its own inboxes."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    inbox: str = ""
    """What its inboxes begin with, if not with its name."""

    @property
    def subscribes(self) -> tuple[str, ...]:
        return (*self.subscribe, f"{self.inbox or subjects.inbox(self.name)}.>")


class PermissionsError(ValueError):
    """There is no configuration for these tenants; the message says why."""


def _read(*buckets: topology.Bucket) -> Iterator[str]:
    """Keys of *buckets*, singly and by watch."""
    for each in buckets:
        yield f"{API}.STREAM.MSG.GET.{each.stream}"
        yield f"{API}.CONSUMER.CREATE.{each.stream}.*.$KV.{each.name}.>"
        yield f"{API}.CONSUMER.MSG.NEXT.{each.stream}.*"


def _write(*buckets: topology.Bucket) -> Iterator[str]:
    return (f"$KV.{each.name}.>" for each in buckets)


def _show(pool: str) -> str:
    """The presence of *pool*, and of no other."""
    return f"$KV.{topology.WORKERS.name}.{pool}.*"


def _look(*streams: topology.Stream) -> Iterator[str]:
    """Messages of *streams*, without a consumer."""
    return (f"{API}.DIRECT.GET.{each.name}" for each in streams)


def _take(stream: topology.Stream, durable: str) -> Iterator[str]:
    """Deliveries of the consumers of *stream* that match *durable*, and what becomes of them."""
    yield f"{API}.CONSUMER.MSG.NEXT.{stream.name}.{durable}"
    yield f"$JS.ACK.{stream.name}.{durable}.>"


def _follow(stream: str, durable: str, subject: str) -> Iterator[str]:
    """A durable consumer of its own, made and deleted at need, and what it delivers."""
    yield f"{API}.CONSUMER.CREATE.{stream}.{durable}.{subject}"
    yield f"{API}.CONSUMER.INFO.{stream}.{durable}"
    yield f"{API}.CONSUMER.DELETE.{stream}.{durable}"
    yield f"{API}.CONSUMER.MSG.NEXT.{stream}.{durable}"
    yield f"$JS.ACK.{stream}.{durable}.>"


def _dead(stream: str) -> str:
    return f"loopai.v1.dead.{stream}.*.*"


_STARTING: Final = (f"{API}.INFO", f"{API}.STREAM.INFO.*", f"{API}.CONSUMER.LIST.*")
"""Whether the broker has what is needed, how full it is: names and numbers, no message."""
_CATALOG: Final = (topology.TASKS, topology.ARTIFACTS, topology.ROLLOUTS)
_ASKING: Final = "loopai.v1.program.*"
"""For the text of a program that a store lacks."""
_REPLIES: Final = (subjects.REPLY_ALL, f"{subjects.inbox('tenant')}.>")
"""Where those may be answered who have published an execution."""
_OF_OTHERS: Final = (topology.WORKERS, topology.SITES)
"""Buckets in which everybody writes what is their own."""

INGRESS: Final = Role(
    name="ingress",
    publish=(
        *_STARTING,
        *_read(*topology.BUCKETS),
        *_write(*(each for each in topology.BUCKETS if each not in _OF_OTHERS)),
        _show("ingress"),
        *_look(topology.EXECUTE, topology.RECORDS, topology.DEAD, topology.WEBHOOK_LOG),
        f"{API}.DIRECT.GET.{topology.SUBSCRIPTIONS.stream}",
        "loopai.v1.execute.>",
        subjects.GENERATE_ALL,
        "loopai.v1.webhook.*.*",
        # With a webhook goes what waits for it, and its history.
        *(f"{API}.STREAM.PURGE.{each.name}" for each in (topology.WEBHOOKS, topology.WEBHOOK_LOG)),
        "loopai.v1.admit.*",
        _ASKING,
    ),
    subscribe=(
        "loopai.v1.reply.ingress.*",
        # Whoever waits for an execution or an operation hears that it has ended.
        *(subjects.RECORD_ALL, subjects.DEAD_ALL, f"$KV.{topology.OPERATIONS.name}.*"),
    ),
)
GATEWAY: Final = Role(
    name="gateway",
    publish=(
        *_STARTING,
        *_read(*_CATALOG, topology.WORKERS),
        _show("gateway"),
        "loopai.v1.execute.interactive.>",
        f"{subjects.inbox('tenant')}.>",
        f"{subjects.inbox('admin')}.>",
    ),
    subscribe=(f"{subjects.CALL_ALL} gateway", *DISCOVERY, "loopai.v1.reply.gateway.*"),
)
EXECUTOR: Final = Role(
    name="executor",
    publish=(
        *_STARTING,
        *_read(*_CATALOG, topology.CANCELLATIONS, topology.WORKERS),
        _show("executor"),
        *_take(topology.EXECUTE, "*"),
        *_look(topology.EXECUTE, topology.RECORDS),
        f"{API}.STREAM.MSG.GET.{topology.RECORDS.name}",
        "loopai.v1.record.*.*",
        "loopai.v1.shadow.*.*",
        "loopai.v1.event.execution.*.*",
        "loopai.v1.routed.>",
        _dead(topology.EXECUTE.name),
        *_REPLIES,
        f"{subjects.inbox('ingress')}.>",
        _ASKING,
    ),
    subscribe=("loopai.v1.admit.* executor",),
)
GENERATOR: Final = Role(
    name="generator",
    publish=(
        *_STARTING,
        *_read(*_CATALOG, topology.OPERATIONS),
        *_write(topology.ARTIFACTS, topology.ROLLOUTS, topology.OPERATIONS),
        _show("generator"),
        *_take(topology.GENERATE, topology.GENERATOR.durable),
        *_look(topology.RECORDS),
        "loopai.v1.event.artifact.*.*",
        _dead(topology.GENERATE.name),
        _ASKING,
    ),
)
RECORDER: Final = Role(
    name="recorder",
    publish=(
        *_STARTING,
        *_read(topology.OPERATIONS),
        *_write(topology.OPERATIONS),
        _show("recorder"),
        *_take(topology.ADVISORIES, topology.RECORDER.durable),
        *_look(topology.EXECUTE, topology.GENERATE, topology.VALIDATE, topology.RECORDS),
        *(
            f"{API}.STREAM.MSG.DELETE.{each.name}"
            for each in (topology.EXECUTE, topology.GENERATE, topology.VALIDATE)
        ),
        _dead("*"),
        *_REPLIES,
    ),
)
NOTIFIER: Final = Role(
    name="notifier",
    publish=(
        *_STARTING,
        *_read(topology.SUBSCRIPTIONS, topology.TASKS),
        # One that fails for long is disabled.
        *_write(topology.SUBSCRIPTIONS),
        _show("notifier"),
        *_take(topology.WEBHOOKS, topology.NOTIFIER.durable),
        *_look(topology.WEBHOOK_LOG),
        *_follow(topology.RECORDS.name, "notifier-records", subjects.RECORD_ALL),
        *_follow(topology.DEAD.name, "notifier-dead", subjects.dead_all(topology.EXECUTE.name)),
        *(
            right
            for each in (topology.ARTIFACTS, topology.ROLLOUTS, topology.OPERATIONS)
            for right in _follow(each.stream, f"notifier-{each.name}", f"$KV.{each.name}.>")
        ),
        "loopai.v1.webhook.*.*",
        "loopai.v1.webhook_log.*.*",
        _dead(topology.WEBHOOKS.name),
    ),
)
SYNCER: Final = Role(
    name="syncer",
    publish=(
        *_STARTING,
        *_read(*_CATALOG),
        *_write(topology.SITES),
        _show("syncer"),
        _ASKING,
        *(f"{subjects.inbox(each)}.>" for each in ("ingress", "executor", "generator", "syncer")),
    ),
    subscribe=(subjects.PROGRAM_ALL,),
)
AUDITOR: Final = Role(
    name="auditor",
    publish=(
        f"{API}.INFO",
        f"{API}.STREAM.INFO.{topology.RECORDS.name}",
        *_look(topology.RECORDS),
    ),
)
ADMIN: Final = Role(name="admin", publish=(f"{API}.>", "$SRV.>"))
"""Makes streams and deletes them, and reads what is in them."""
ROLES: Final = (
    INGRESS,
    GATEWAY,
    EXECUTOR,
    GENERATOR,
    RECORDER,
    NOTIFIER,
    SYNCER,
    AUDITOR,
    ADMIN,
)


def tenant(name: str) -> Role:
    """A client of the tenant *name*: it publishes executions and calls, and hears its answers."""
    mine = subjects.token(name)
    return Role(
        name=f"tenant-{name}",
        publish=(
            # Never `>` after the tenant: where its name is a number, what follows would be the
            # queue of another (ADR 0015).
            *(f"loopai.v1.execute.{lane}.{mine}.*" for lane in topology.LANES),
            f"loopai.v1.call.{mine}.*",
        ),
        inbox=subjects.tenant_inbox(name),
    )


def variable(role: Role, proof: Proof) -> str:
    """The variable of the broker's environment that has the password or the public key."""
    return f"NATS_{proof.upper()}_{re.sub('[^A-Z0-9]', '_', role.name.upper())}"


def configuration(tenants: Sequence[str] = (), *, proof: Proof = "password") -> str:
    """The block `authorization` for nats-server. PermissionsError."""
    roles = [*ROLES, *_tenants(dict.fromkeys(tenants))]
    users = [_user(role, proof) for role in roles]
    return "\n".join(
        (
            "# Made by `python -m streams permissions`: who may do what on the bus of Loopai.",
            "authorization {",
            "  users: [",
            *(f"    {line}" for user in users for line in user),
            "  ]",
            "}",
            "",
        )
    )


def _tenants(names: Iterable[str]) -> Iterator[Role]:
    seen: dict[str, str] = {}
    for name in names:
        if not subjects.is_name(name):
            raise PermissionsError(f"{name[:130]!r} is no name of a tenant")
        other = seen.setdefault(variable(tenant(name), "password"), name)
        if other != name:
            raise PermissionsError(f"{other!r} and {name!r} would share a variable; rename one")
        yield tenant(name)


def _user(role: Role, proof: Proof) -> Iterator[str]:
    value = f"${variable(role, proof)}"
    yield "{"
    if proof == "password":
        yield f"  user: {json.dumps(role.name)}"
    yield f"  {proof}: {value}"
    yield "  permissions: {"
    yield from _allowed("publish", role.publish)
    yield from _allowed("subscribe", role.subscribes)
    yield "  }"
    yield "}"


def _allowed(what: str, allowed: Sequence[str]) -> Iterator[str]:
    yield f"    {what}: {{ allow: ["
    for subject in dict.fromkeys(allowed):
        yield f"      {json.dumps(subject)}"
    yield "    ] }"
