"""docs/reference/subjects.md: every subject, stream, consumer and bucket."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from loopai.ingress.describe import bus, channels
from streams import topology

_HEAD: Final = """\
# Subjects, streams and buckets

What travels on the bus, and what keeps it, made from the code by `make docs`. [The bus](bus.md)
explains it, and `/asyncapi.json`, which is [here](asyncapi.json) as well, has every message.
"""


def page() -> str:
    return "\n".join([_HEAD, *_subjects(), *_streams(), *_consumers(), *_buckets()])


def _subjects() -> Iterator[str]:
    yield "## Subjects\n\n| subject | stream | from | to | what |\n|---|---|---|---|---|"
    for each in channels.CHANNELS:
        stream = bus.stream_of(each.subject) if each.subject else None
        subject = f"`{each.subject}`" if each.subject else "of the caller's choice"
        kept = stream.name if stream else "none"
        sent_by, taken_by = (", ".join(roles) for roles in (each.sent_by, each.taken_by))
        yield f"| {subject} | {kept} | {sent_by} | {taken_by} | {each.summary} |"
    yield "\n| part | |\n|---|---|"
    for name, (text, values) in channels.PARAMETERS.items():
        listed = f" One of {', '.join(f'`{value}`' for value in values)}." if values else ""
        yield f"| `{{{name}}}` | {text}{listed} |"
    yield "\n| header | |\n|---|---|"
    for name, text in channels.HEADERS.items():
        yield f"| `{name}` | {text} |"
    yield ""


def _streams() -> Iterator[str]:
    yield "## Streams\n\n| stream | kind | kept | bytes | messages a subject | what |"
    yield "|---|---|---|---|---|---|"
    for each in topology.STREAMS:
        kind = "work queue" if each.retention == "workqueue" else "log"
        kept = _duration(each.max_age_s) if each.max_age_s else "until taken"
        most = each.messages_per_subject_max
        limit = f"{most:,}" if most > 0 else ""
        size = _size(each.max_bytes)
        yield f"| {each.name} | {kind} | {kept} | {size} | {limit} | {each.why} |"
    yield ""


def _consumers() -> Iterator[str]:
    yield "## Durable consumers\n\n| consumers | stream | wait | deliveries |"
    yield "|---|---|---|---|"
    pools = groupby(topology.CONSUMERS, key=lambda each: each.durable.rstrip("-0123456789"))
    for name, found in pools:
        consumers = list(found)
        first = consumers[0]
        shown = f"`{name}`" if len(consumers) == 1 else f"{len(consumers)} of `{name}-…`"
        most = str(first.max_deliver) if first.max_deliver > 0 else "until it is handled"
        yield f"| {shown} | {first.stream} | {_duration(first.ack_wait_s)} | {most} |"
    yield ""


def _buckets() -> Iterator[str]:
    yield "## Buckets\n\n| bucket | kept | bytes | what |\n|---|---|---|---|"
    for each in topology.BUCKETS:
        kept = _duration(each.ttl_s) if each.ttl_s else "for ever"
        yield f"| `{each.name}` | {kept} | {_size(each.max_bytes)} | {each.why} |"
    yield ""


def _duration(seconds: float) -> str:
    for unit, length in (("days", topology.DAY_S), ("hours", topology.HOUR_S)):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return f"{count} {unit if count > 1 else unit.removesuffix('s')}"
    return f"{seconds:g} s"


def _size(count: int) -> str:
    if count % topology.GIB == 0:
        return f"{count // topology.GIB} GiB"
    return f"{count // topology.MIB} MiB"
