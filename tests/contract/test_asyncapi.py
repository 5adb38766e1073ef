"""/asyncapi.json: valid, and complete as far as topology and codecs say what there is."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from loopai.ingress.describe import bus, channels, shapes
from streams import codec, permissions, subjects, topology
from workers import calls, gateway, service

DOCUMENT: dict[str, Any] = msgspec.json.decode(bus.encoded())
SCHEMA = Path(__file__).parent / "asyncapi" / "3.0.0.json"
NOT_DESCRIBED = {"ADVISORIES", "VALIDATE"}
"""Streams without a channel: the broker's own messages; what nobody publishes to yet."""


def _resolved(reference: str) -> Any:  # any: a part of the document
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_document_is_asyncapi() -> None:
    """The schema of the specification has nothing to say, which it has of a broken document."""
    validator = jsonschema_rs.validator_for(msgspec.json.decode(SCHEMA.read_bytes()))
    validator.validate(DOCUMENT)
    assert not validator.is_valid({**DOCUMENT, "channels": {"x": {"adress": "y"}}})


def test_references_lead_somewhere() -> None:
    """Every $ref names a part of the document."""
    pending: list[Any] = [DOCUMENT]
    seen = 0
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if isinstance(each.get("$ref"), str):
                _resolved(each["$ref"])
                seen += 1
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
    assert seen > 50


def test_every_stream_and_bucket_has_a_channel() -> None:
    """What the topology keeps is described, with the stream that keeps it."""
    described = DOCUMENT["channels"].values()
    kept = {each["x-jetstream"]["stream"] for each in described if "x-jetstream" in each}
    assert kept == {each.name for each in topology.STREAMS} - NOT_DESCRIBED
    addresses = {each["address"] for each in described}
    assert {f"$KV.{each.name}.{{key}}" for each in topology.BUCKETS} <= addresses
    assert all(_message(each.name) != {} for each in topology.BUCKETS), (
        "a bucket without a type in channels._RESTS"
    )


def _message(bucket: str) -> dict[str, Any]:
    (reference,) = DOCUMENT["channels"][f"kv_{bucket}"]["messages"].values()
    payload: dict[str, Any] = _resolved(reference["$ref"])["payload"]
    return payload if "$ref" in payload else {}


def test_every_message_that_flows_is_described() -> None:
    """A type that has a codec has a schema."""
    kinds = {each.kind.__name__ for each in vars(codec).values() if isinstance(each, codec.Codec)}
    # The heads of tasks are what is kept of them in memory, and travel nowhere.
    assert kinds - {"TaskHead"} <= set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize("channel", channels.CHANNELS, ids=lambda each: each.id)
def test_addresses_are_those_of_the_code(channel: channels.Channel) -> None:
    """Each parameter is explained, and messages are kept where the code says."""
    described = DOCUMENT["channels"][channel.id]
    named = {part[1:-1] for part in (channel.subject or "").split(".") if part.startswith("{")}
    assert set(described.get("parameters", {})) == named
    for each in described.get("parameters", {}).values():
        assert each["description"]


def test_a_call_is_what_the_gateway_takes() -> None:
    """Fields of its payload and names of its headers are those that it reads."""
    called = DOCUMENT["components"]["messages"]["Call"]
    assert set(shapes.Call.__struct_fields__) == set(calls.Body.__struct_fields__)
    assert set(called["headers"]["properties"]) == {
        *(calls.VERSION, calls.TIMEOUT_MS, calls.FORCE_VALIDATION, calls.ROUTING_KEY),
        calls.TRACEPARENT,
    }
    refused = DOCUMENT["components"]["messages"]["ProblemDocument"]["headers"]["properties"]
    assert set(refused) == {service.ERROR, service.ERROR_CODE, gateway.RETRY_AFTER}


def test_roles_are_those_that_the_broker_knows() -> None:
    """Each who sends or takes has credentials of its own, but for clients and what is to come."""
    named = {tag["name"] for each in DOCUMENT["operations"].values() for tag in each["tags"]}
    known = {each.name for each in permissions.ROLES}
    assert named - {"client", "hub"} <= known
    assert {"gateway", "notifier"} <= named


@pytest.mark.parametrize("channel", channels.CHANNELS, ids=lambda each: each.id)
def test_nothing_in_capitals_is_left_in_an_address(channel: channels.Channel) -> None:
    """Every part that varies has become a parameter."""
    assert (channel.subject or "").islower() or channel.subject is None


def test_the_stream_of_an_execution_is_found() -> None:
    """The subject that publishers use is captured by EXECUTE, a reply's by none."""
    published = subjects.execute("bulk", "acme", "mail.spam")
    found = bus.stream_of(published)
    assert found is not None
    assert found.name == "EXECUTE"
    assert bus.stream_of(subjects.reply("acme", "ingress-1")) is None
    assert bus.stream_of("loopai.v1.execute.nope.acme.spam") is None
