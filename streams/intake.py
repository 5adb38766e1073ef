"""What a message of the EXECUTE stream asks for, whoever published it, in whichever form."""

import hashlib
from datetime import datetime
from typing import Final

from streams import codec, ids, topology
from streams.messages import ExecuteBatch, ExecuteItem

TIMEOUT_MS: Final = 30_000
"""How long a direct publisher waits unless it says otherwise."""
TIMEOUT_MS_MAX: Final = 300_000
if topology.CANCELLATIONS.ttl_s * 1000 <= TIMEOUT_MS_MAX:
    raise topology.TopologyError("a cancellation must outlive the deadline of its execution")
VERSION_MAX: Final = 2**53
"""JSON has larger integers, a record could not hold them."""


def batch(
    headers: dict[str, str], payload: bytes, *, sequence: int, published_at: datetime
) -> ExecuteBatch:
    """The batch in *payload*: msgpack, or one JSON ExecuteRequest where the content type says so.

    A request without an id gets one of its *sequence* and time in the stream, so that every
    redelivery and every reader gives it the same. Undecodable when it is neither.
    """
    if not codec.is_json(headers):
        decoded = codec.EXECUTE.decode(payload)
        if not decoded.items:
            raise codec.Undecodable("ExecuteBatch: no items")
        if len(decoded.items) > topology.ITEMS_MAX:
            raise codec.Undecodable(f"ExecuteBatch: more than {topology.ITEMS_MAX} items")
        if len({item.id for item in decoded.items}) < len(decoded.items):
            raise codec.Undecodable("ExecuteBatch: two items have the same id")
        for item in decoded.items:
            _require_uuid7(item.id)
        return decoded
    request = codec.EXECUTE_REQUEST.decode(payload)
    published_ms = int(published_at.timestamp() * 1000)
    timeout_ms = request.timeout_ms if request.timeout_ms is not None else TIMEOUT_MS
    if not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise codec.Undecodable(f"ExecuteRequest: timeout_ms must be from 1 to {TIMEOUT_MS_MAX}")
    if request.version is not None and request.version > VERSION_MAX:
        raise codec.Undecodable(f"ExecuteRequest: version must be {VERSION_MAX} at most")
    if request.id is not None:
        _require_uuid7(request.id)
    item = ExecuteItem(
        id=request.id or ids.at(published_ms, _digest(sequence)),
        input=bytes(request.input),
        version=request.version,
        deadline_ms=published_ms + timeout_ms,
        force_validation=request.force_validation,
        trace_id=request.trace_id,
        routing_key=request.routing_key,
    )
    return ExecuteBatch(items=(item,))


def _require_uuid7(text: str) -> None:
    """Ids are looked up by the time in them, and become `Nats-Msg-Id` headers."""
    if not ids.is_id(text):
        raise codec.Undecodable(f"id: expected a UUIDv7 in lower case, not {text[:64]!r}")


def _digest(sequence: int) -> bytes:
    return hashlib.sha256(b"loopai.execute.%d" % sequence).digest()[:10]
