"""Bring a broker to the topology: compare, then create or update; safe to repeat."""

from dataclasses import replace
from typing import Any, Literal, TypeVar

import msgspec
import nats.js.api as js
import nats.js.errors

from streams import topology
from streams.connection import Connection

Config = TypeVar("Config", js.StreamConfig, js.ConsumerConfig)

_PAGE = 256
"""Consumers that the broker lists at once."""

# The broker fixes these when a stream is made; changing one means moving the data by hand.
_FIXED = frozenset({"retention", "storage", "ack_policy", "deliver_policy"})


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What must happen to one stream, consumer or bucket. `fields`: name → (have, want)."""

    kind: Literal["stream", "consumer", "bucket"]
    name: str
    action: Literal["create", "update", "delete"]
    stream: str = ""
    """Of a consumer: what it is a consumer of."""
    fields: dict[str, tuple[Any, Any]] = {}  # Any: configuration values of every type


async def diff(connection: Connection, wanted: topology.Topology) -> list[Change]:
    """What `apply` would do, in that order. Empty when the broker matches."""
    changes = []
    for name, stream in _streams(wanted).items():
        kind: Literal["stream", "bucket"] = "bucket" if name.startswith("KV_") else "stream"
        have = await _stream(connection, name)
        change = _change(kind, name, have, stream)
        if change:
            changes.append(change)
    for stream_spec in wanted.streams:
        changes += await _consumer_changes(connection, stream_spec, wanted)
    return changes


async def _consumer_changes(
    connection: Connection, stream: topology.Stream, wanted: topology.Topology
) -> list[Change]:
    specs = {spec.durable: spec for spec in wanted.consumers if spec.stream == stream.name}
    if not specs:
        return []
    have = await _consumers(connection, stream.name)
    changes = []
    if stream.retention == "workqueue":
        # First: one of an earlier version would stand in the way of those that replace it.
        changes += [
            Change(kind="consumer", stream=stream.name, name=name, action="delete")
            for name in have
            if name not in specs
        ]
    for name, spec in specs.items():
        change = _change("consumer", name, have.get(name), _consumer_config(spec))
        if change:
            changes.append(msgspec.structs.replace(change, stream=stream.name))
    return changes


async def apply(connection: Connection, wanted: topology.Topology) -> list[Change]:
    """Do what `diff` says and return it. TopologyError when a fixed property differs."""
    changes = await diff(connection, wanted)
    streams = _streams(wanted)
    consumers = {spec.durable: spec for spec in wanted.consumers}
    for change in changes:
        fixed = _FIXED & change.fields.keys()
        if change.action == "update" and fixed:
            raise topology.TopologyError(
                f"{change.kind} {change.name}: {', '.join(sorted(fixed))} cannot be changed in "
                "place; move its messages to a new one, or point LOOPAI_NATS_URL elsewhere"
            )
        if change.action == "delete":
            await connection.jetstream.delete_consumer(change.stream, change.name)
        elif change.kind == "consumer":
            spec = consumers[change.name]
            await connection.jetstream.add_consumer(spec.stream, _consumer_config(spec))
        elif change.action == "create":
            await connection.jetstream.add_stream(streams[change.name])
        else:
            have = await _stream(connection, change.name)
            assert have is not None  # noqa: S101 (it was there for the diff)
            new = {name: want for name, (_, want) in change.fields.items()}
            await connection.jetstream.update_stream(replace(have, **new))
    return changes


async def missing(connection: Connection, wanted: topology.Topology) -> list[str]:
    """Names of what is not there at all: a process that needs it should not start."""
    return [c.name for c in await diff(connection, wanted) if c.action == "create"]


def _change(
    kind: Literal["stream", "consumer", "bucket"], name: str, have: Config | None, want: Config
) -> Change | None:
    if have is None:
        return Change(kind=kind, name=name, action="create")
    fields = {
        field: (value, wish)
        for field, wish in vars(want).items()
        if field in _COMPARED and wish is not None and (value := getattr(have, field)) != wish
    }
    return Change(kind=kind, name=name, action="update", fields=fields) if fields else None


_COMPARED = frozenset(
    (  # noqa: SIM905 (a list of 17 strings is no easier to read)
        "subjects subject_transform retention discard discard_new_per_subject max_age max_bytes "
        "max_msgs_per_subject max_msg_size storage num_replicas duplicate_window allow_direct "
        "filter_subject ack_policy ack_wait max_deliver max_ack_pending"
    ).split()
)


def _streams(wanted: topology.Topology) -> dict[str, js.StreamConfig]:
    return {s.name: _stream_config(s) for s in wanted.streams} | {
        b.stream: _bucket_config(b) for b in wanted.buckets
    }


def _stream_config(spec: topology.Stream) -> js.StreamConfig:
    return js.StreamConfig(
        name=spec.name,
        description=spec.why,
        subjects=list(spec.subjects),
        subject_transform=js.SubjectTransform(*spec.transform) if spec.transform else None,
        retention=js.RetentionPolicy(spec.retention),
        discard=js.DiscardPolicy(spec.discard),
        discard_new_per_subject=spec.discard == "new" and spec.messages_per_subject_max > 0,
        max_age=spec.max_age_s,
        max_bytes=spec.max_bytes,
        max_msgs_per_subject=spec.messages_per_subject_max,
        max_msg_size=spec.message_bytes_max,
        storage=js.StorageType.FILE,
        num_replicas=spec.replicas,
        duplicate_window=spec.duplicate_window_s,
        allow_direct=True,
    )


def _bucket_config(spec: topology.Bucket) -> js.StreamConfig:
    """The stream below a bucket, as every NATS client lays it out (NATS ADR-8)."""
    return js.StreamConfig(
        name=spec.stream,
        description=spec.why,
        subjects=[f"$KV.{spec.name}.>"],
        retention=js.RetentionPolicy.LIMITS,
        discard=js.DiscardPolicy.NEW,
        max_age=spec.ttl_s,
        max_bytes=spec.max_bytes,
        max_msgs_per_subject=spec.history,
        storage=js.StorageType.FILE,
        num_replicas=spec.replicas,
        duplicate_window=min(120.0, spec.ttl_s or 120.0),
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
    )


def _consumer_config(spec: topology.Consumer) -> js.ConsumerConfig:
    return js.ConsumerConfig(
        durable_name=spec.durable,
        filter_subject=spec.filter_subject,
        ack_policy=js.AckPolicy.EXPLICIT,
        ack_wait=spec.ack_wait_s,
        max_deliver=spec.max_deliver,
        max_ack_pending=spec.max_ack_pending,
    )


async def _stream(connection: Connection, name: str) -> js.StreamConfig | None:
    try:
        return (await connection.jetstream.stream_info(name)).config
    except nats.js.errors.NotFoundError:
        return None


async def _consumers(connection: Connection, stream: str) -> dict[str, js.ConsumerConfig]:
    """Those of *stream*, by name; none where there is no such stream."""
    found: dict[str, js.ConsumerConfig] = {}
    while True:
        try:
            page = await connection.jetstream.consumers_info(stream, offset=len(found))
        except nats.js.errors.NotFoundError:
            return {}
        found.update((info.name, info.config) for info in page)
        if len(page) < _PAGE:
            return found
