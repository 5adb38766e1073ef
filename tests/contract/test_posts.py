"""What webhooks are posted is what /openapi.json says, and so are the headers that sign it."""

from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from loopai.ingress.describe import document
from loopai.webhooks import happenings, signature
from streams import ids, messages
from tests.contract.samples import SAMPLES

DOCUMENT: dict[str, Any] = msgspec.json.decode(document.encoded())
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _sample(name: str) -> Any:  # any: a message
    return SAMPLES[name][1]


def _told() -> dict[str, list[bytes]]:
    """Bodies that are made of samples, by event."""
    (record,) = _sample("record_batch").records
    task = _sample("task_head")
    made: list[happenings.Happening] = [
        happenings.of_record(msgspec.structs.replace(record, status=status, **more))
        for status in ("success", "error", "cancelled")
        for more in ({}, {"output": b'"%s"' % (b"x" * happenings.BODY_BYTES_MAX)})
    ]
    made += happenings.of_dead(_sample("dead_letter"), "default", "upper")
    made.append(happenings.of_artifact(_sample("program_artifact"), task))
    for action in ("activate", "rollback"):
        change = messages.RolloutChange(at=NOW, by="ci", action=action, version=2, previous=1)
        rollout = msgspec.structs.replace(_sample("rollout"), history=(change,))
        made += happenings.of_rollout(rollout, 3, task)
    operation = msgspec.structs.replace(_sample("operation"), status="succeeded")
    made += happenings.of_operation(operation)
    found: dict[str, list[bytes]] = {}
    for each in made:
        body = happenings.body(each.type, each.time, each.data)
        found.setdefault(each.type, []).append(body)
    found[happenings.PING] = [happenings.ping(_sample("webhook"), NOW).body]
    return found


TOLD = _told()


def test_every_event_is_described_and_no_other() -> None:
    """Those that can be subscribed to, and the one that tries a webhook."""
    assert DOCUMENT["webhooks"].keys() == TOLD.keys()


@pytest.mark.parametrize("event", sorted(DOCUMENT["webhooks"]))
def test_bodies_are_of_their_schemas(event: str) -> None:
    """Those that are cut short as well; and a body of another event is not."""
    content = DOCUMENT["webhooks"][event]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    validator = jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})
    for body in TOLD[event]:
        validator.validate(msgspec.json.decode(body))
    other = next(name for name in TOLD if name != event)
    assert not validator.is_valid(msgspec.json.decode(TOLD[other][0]))


@pytest.mark.parametrize("event", sorted(DOCUMENT["webhooks"]))
def test_signatures_are_described(event: str) -> None:
    """Each header that is sent, in the form that it has, while a secret changes too."""
    secrets = [signature.new_secret(), signature.new_secret()]
    sent = signature.headers(secrets, ids.new(), 1_767_323_045, TOLD[event][0])
    described = DOCUMENT["webhooks"][event]["post"]["parameters"]
    assert {each["name"] for each in described} == sent.keys()
    for each in described:
        jsonschema_rs.validator_for(each["schema"]).validate(sent[each["name"]])
