"""Bring a broker to the topology: compare, then create or update; safe to repeat."""

from dataclasses import replace
from typing import Any, Literal, TypeVar

import msgspec
import nats.js.api as js
import nats.js.errors

from streams import topology
from streams.connection import Connection

Config = TypeVar("Config", js.StreamConfig, js.ConsumerConfig)

# The broker fixes these when a stream is made; changing one means moving the data by hand.
_FIXED = frozenset({"retention", "storage", "ack_policy", "deliver_policy"})


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What must happen to one stream, consumer or bucket. `fields`: name → (have, want)."""

    kind: Literal["stream", "consumer", "bucket"]
    name: str
    action: Literal["create", "update"]
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
    for spec in wanted.consumers:
        found = await _consumer(connection, spec)
        change = _change("consumer", spec.durable, found, _consumer_config(spec))
        if change:
            changes.append(change)
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
        if change.kind == "consumer":
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
    (  # noqa: SIM905 (a list of 16 strings is no easier to read)
        "subjects retention discard discard_new_per_subject max_age max_bytes max_msgs_per_subject "
        "max_msg_size "
        "storage num_replicas duplicate_window allow_direct "
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


async def _consumer(connection: Connection, spec: topology.Consumer) -> js.ConsumerConfig | None:
    try:
        info = await connection.jetstream.consumer_info(spec.stream, spec.durable)
    except nats.js.errors.NotFoundError:
        return None
    config: js.ConsumerConfig | None = info.config
    return config
