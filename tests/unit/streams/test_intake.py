"""What direct publishers may send, and what they get told."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import codec, ids, intake, messages

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}


def _read(payload: bytes, headers: dict[str, str] | None = None) -> messages.ExecuteBatch:
    return intake.batch(headers or JSON, payload, sequence=7, published_at=WHEN)


def test_json_request_becomes_a_batch_of_one() -> None:
    """The input stays as it was written, and the deadline counts from the publishing."""
    (item,) = _read(b'{"input": {"b": 1.0, "a": "\\u00e9"}, "timeout_ms": 500}').items

    assert item.input == b'{"b": 1.0, "a": "\\u00e9"}'
    assert item.deadline_ms == WHEN.timestamp() * 1000 + 500


def test_a_request_without_an_id_gets_the_same_one_at_every_reading() -> None:
    """A redelivery must find the record of the first delivery."""
    first, again = _read(b'{"input": 1}'), _read(b'{"input": 1}')

    assert first.items[0].id == again.items[0].id
    assert ids.minted_at(first.items[0].id) == WHEN


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "ExecuteRequest"),
        (b"{", "ExecuteRequest"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `input`"),
        (b'{"input": 1, "verson": 2}', "verson"),
        (b'{"input": 1, "id": "x"}', "UUIDv7"),
        (b'{"input": 1, "timeout_ms": 0}', "timeout_ms"),
        (b'{"input": 1, "timeout_ms": 300001}', "timeout_ms"),
        (b'{"input": 1, "version": "1"}', "Expected `int"),
        (b'{"input": 1, "routing_key": ""}', "routing_key"),
        (b'{"input": 1, "routing_key": "%s"}' % (b"x" * 257), "routing_key"),
        (b"\xff\xfe", "ExecuteRequest"),
        (b"[" * 100_000, "ExecuteRequest"),
    ],
)
def test_bad_json_says_what_is_wrong(payload: bytes, message: str) -> None:
    """The reason that goes to DEAD names the field."""
    with pytest.raises(codec.Undecodable, match=message):
        _read(payload)


def test_a_routing_key_has_a_length_in_both_forms() -> None:
    """1 to 256 characters; in msgpack, where it is told which item has it, as in JSON."""
    (item,) = _read(b'{"input": 1, "routing_key": "%s"}' % (b"x" * 256)).items
    assert item.routing_key == "x" * 256
    assert _read(b'{"input": 1}').items[0].routing_key is None
    fine = msgspec.structs.replace(item, id=ids.new(), routing_key="customer")
    for key in ("", "x" * 257):
        bad = msgspec.structs.replace(item, routing_key=key)
        payload = codec.EXECUTE.encode(messages.ExecuteBatch(items=(fine, bad)))
        with pytest.raises(codec.Undecodable, match=r"items\[1\]\.routing_key"):
            _read(payload, {"x": "y"})


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_do_more_than_be_undecodable(payload: bytes, json: bool) -> None:
    """Whatever arrives is a batch or Undecodable: nothing else may reach a worker."""
    try:
        batch = _read(payload, JSON if json else {"x": "y"})
    except codec.Undecodable:
        return
    assert batch.items


@pytest.mark.parametrize("items", [(), ("not-an-id",)])
def test_msgpack_batches_need_items_with_ids(items: tuple[str, ...]) -> None:
    """An id that is no UUIDv7 could never be looked up."""
    batch = {"items": [{"id": i, "input": b"1", "deadline_ms": 1} for i in items]}
    with pytest.raises(codec.Undecodable, match=r"no items|UUIDv7"):
        _read(msgspec.msgpack.encode(batch), {"x": "y"})


@pytest.mark.parametrize(
    ("headers", "json"),
    [
        (None, False),
        ({}, False),
        (JSON, True),
        ({"Content-Type": "application/JSON; charset=utf-8"}, True),
        ({"Content-Type": "application/msgpack"}, False),
    ],
)
def test_content_type_decides_the_form(headers: dict[str, str] | None, json: bool) -> None:
    """msgpack unless the header says JSON, however it is spelled."""
    assert codec.is_json(headers) is json
