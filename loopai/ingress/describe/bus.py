"""`/asyncapi.json`: the bus as AsyncAPI 3, made of the table of channels and of the topology."""

import functools
import importlib.metadata
import re
from typing import Any, Final

import msgspec

from loopai.ingress.describe import channels, forms
from loopai.ingress.describe.channels import Channel, Form
from streams import subjects, topology

_REF: Final = "#/components/schemas/{name}"
_PART: Final = re.compile(r"\{(\w+)\}")
_TEXT: Final = """\
Loopai's services meet on NATS JetStream, and anything that speaks NATS can join them.

Messages are msgpack; executions may be JSON as well. Where a schema says base64, msgpack carries
the bytes themselves: mostly JSON text, as it was written. `x-jetstream` says which stream keeps
what is published, and how long. Operations have their role as a tag."""


@functools.cache
def build() -> dict[str, Any]:  # any: an AsyncAPI document is
    """The document; not to be changed."""
    found = channels.all_channels()
    named = {_name(form): form for channel in found for form in channel.forms}
    schemas, components = forms.components([form.type for form in named.values()], _REF)
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Loopai bus",
            "version": importlib.metadata.version("loopai"),
            "description": _TEXT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": channels.MSGPACK,
        "servers": {"local": {"host": "127.0.0.1:4222", "protocol": "nats"}},
        "channels": {each.id: _channel(each) for each in found},
        "operations": {name: value for each in found for name, value in _operations(each)},
        "components": {
            "messages": {
                name: _message(name, form, schema)
                for (name, form), schema in zip(named.items(), schemas, strict=True)
            },
            "schemas": components,
        },
    }
    # There and back: defaults that are tuples are no JSON yet.
    return msgspec.json.decode(msgspec.json.encode(document), type=dict[str, Any])


def encoded() -> bytes:
    return msgspec.json.encode(build())


def stream_of(subject: str) -> topology.Stream | None:
    """The stream that keeps what is published on *subject*, whose varying parts are in braces."""
    tokens = subject.split(".")
    for stream in topology.STREAMS:
        if any(_captures(each.split("."), tokens) for each in stream.subjects):
            return stream
    return None


def _captures(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern, tokens = pattern[:-1], tokens[: len(pattern) - 1]
    return len(pattern) == len(tokens) and all(
        expected in {"*", token} or token.startswith("{")
        for expected, token in zip(pattern, tokens, strict=True)
    )


def _name(form: Form) -> str:
    """Of a message: its type, and whether it has headers, which differ for what is routed."""
    if form.type is bytes:
        return "Program"
    name: str = form.type.__name__
    if subjects.ROUTED_FROM in form.headers:
        return f"Routed{name}"
    return f"Published{name}" if subjects.MESSAGE_ID in form.headers else name


def _channel(of: Channel) -> dict[str, Any]:
    parameters = _PART.findall(of.subject or "")
    stream = stream_of(of.subject) if of.subject and not of.bucket else None
    described: dict[str, Any] = {
        "address": of.subject,
        "description": of.summary,
        "messages": {
            _name(form): {"$ref": f"#/components/messages/{_name(form)}"} for form in of.forms
        },
    }
    if parameters:
        described["parameters"] = {name: _parameter(name) for name in parameters}
    if stream is not None:
        described["x-jetstream"] = {
            "stream": stream.name,
            "retention": stream.retention,
            "max_age_s": stream.max_age_s,
            "max_bytes": stream.max_bytes,
        }
    return described


def _parameter(name: str) -> dict[str, Any]:
    description, values = channels.PARAMETERS[name]
    return {"description": description, **({"enum": list(values)} if values else {})}


def _operations(of: Channel) -> list[tuple[str, dict[str, Any]]]:
    described = []
    for action, roles in (("send", of.sent_by), ("receive", of.taken_by)):
        for role in roles:
            operation: dict[str, Any] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{of.id}"},
                "tags": [{"name": role}],
            }
            if of.answer:
                operation["reply"] = {"channel": {"$ref": f"#/channels/{of.answer}"}}
            described.append((f"{role}_{action}s_{of.id}", operation))
    return described


def _message(name: str, of: Form, schema: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "contentType": of.media, "payload": schema}
    if of.headers:
        described["headers"] = {
            "type": "object",
            "properties": {
                each: {"type": "string", "description": channels.HEADERS[each]}
                for each in of.headers
            },
        }
    return described
