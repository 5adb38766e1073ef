"""What of the HTTP API goes over gRPC as well: requests as messages, messages as answers.

`pip install loopai-client[grpc]`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from google.protobuf import message as protobuf
from google.rpc import error_details_pb2, status_pb2

from loopai_client import errors, loopai_pb2, requests

DETAILS_KEY: Final = "grpc-status-details-bin"
ITEMS_MAX: Final = 256
"""Of a batch in one message, and …"""
ITEMS_BYTES_MAX: Final = 256 * 1024
"""… bytes of their inputs, from which on the next message begins."""
_PATH: Final = re.compile(rf"{requests.BASE}/(?:tasks/([^/]+)/(execute|generate)|batch/execute)")
_KEY: Final = "Idempotency-Key"
_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request as gRPC has it."""

    method: str
    messages: list[Any]  # any: messages of several types

    @property
    def streams(self) -> bool:
        return self.method == "ExecuteBatch"


class _Item(msgspec.Struct, frozen=True, kw_only=True):
    input: msgspec.Raw
    id: str | None = None
    force_validation: bool | None = None
    routing_key: str | None = None


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    task_id: str
    items: list[_Item]
    version: int | None = None
    timeout_ms: int | None = None
    max_concurrency: int | None = None
    stop_on_first_error: bool | None = None


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    input: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    version: int | None = None
    timeout_ms: int | None = None
    force_validation: bool | None = None
    routing_key: str | None = None
    engine: str | None = None
    seed: int | None = None
    activate: bool | None = None


def call(request: requests.Request) -> Call | None:
    """*request* as gRPC has it, if it does."""
    found = _PATH.fullmatch(request.path)
    if request.method != "POST" or found is None:
        return None
    key = request.headers.get(_KEY)
    try:
        if found[2] is None:
            return _batch(msgspec.json.decode(request.content or b"", type=_Batch), key)
        body = msgspec.json.decode(request.content or b"{}", type=_Body)
        fields = {
            **requests.given(**msgspec.structs.asdict(body)),
            "task": unquote(found[1]),
            **requests.given(idempotency_key=key),
        }
        if "wait" in request.query:
            fields["wait_s"] = float(request.query["wait"])
        given = bytes(fields.pop("input"))
        if found[2] == "execute":
            return Call(
                method="Execute", messages=[loopai_pb2.ExecuteRequest(input=given, **fields)]
            )
        return Call(method="Generate", messages=[loopai_pb2.GenerateRequest(**fields)])
    except (msgspec.MsgspecError, TypeError, ValueError):
        return None  # What the server says of it is best said by HTTP.


def answer(made: Call, replies: list[Any]) -> bytes:
    """The answer of HTTP that *replies* to *made* stand for. ConnectionFailed: it has no end."""
    if made.streams:
        return _batch_answer(replies)
    return _encode(_document(replies[0]))


def error(details: bytes) -> errors.ApiError | None:
    """The error that a google.rpc.Status means, if it is one of ours."""
    try:
        packed = status_pb2.Status.FromString(details)
        found = {each.type_url.rpartition(".")[2]: each.value for each in packed.details}
        info = error_details_pb2.ErrorInfo.FromString(found["ErrorInfo"])
        members: dict[str, Any] = {name: _value(name, text) for name, text in info.metadata.items()}
        status = int(members.pop("http_status"))
        bad = error_details_pb2.BadRequest.FromString(found.get("BadRequest", b""))
        retry = error_details_pb2.RetryInfo.FromString(found.get("RetryInfo", b""))
    except (protobuf.DecodeError, KeyError, ValueError):
        return None
    members |= {"code": info.reason, "detail": packed.message}
    members["errors"] = [
        {"path": each.field, "message": each.description} for each in bad.field_violations
    ]
    after_s = float(retry.retry_delay.seconds) if "RetryInfo" in found else None
    return errors.of(status, _encode(members), after_s)


def _value(name: str, text: str) -> str | int:
    return int(text) if text.isdecimal() and name != "trace_id" else text


def _batch(body: _Batch, key: str | None) -> Call:
    terms = loopai_pb2.BatchTerms(
        task=body.task_id,
        version=body.version,
        timeout_ms=body.timeout_ms,
        max_concurrency=body.max_concurrency,
        stop_on_first_error=body.stop_on_first_error,
        idempotency_key=key,
    )
    parts = [loopai_pb2.ExecuteBatchRequest(items=part) for part in _parts(body.items)]
    return Call(
        method="ExecuteBatch", messages=[loopai_pb2.ExecuteBatchRequest(terms=terms), *parts]
    )


def _parts(items: list[_Item]) -> Iterator[loopai_pb2.BatchItems]:
    part, size = loopai_pb2.BatchItems(), 0
    for number, item in enumerate(items):
        part.items.add(
            input=bytes(item.input),
            # Lines are counted from 1, items of a batch over HTTP from 0.
            id=str(number) if item.id is None else item.id,
            force_validation=item.force_validation,
            routing_key=item.routing_key,
        )
        size += len(item.input)
        if len(part.items) == ITEMS_MAX or size >= ITEMS_BYTES_MAX:
            yield part
            part, size = loopai_pb2.BatchItems(), 0
    if part.items:
        yield part


def _batch_answer(replies: list[Any]) -> bytes:
    results = [_document(each) for reply in replies for each in reply.results.results]
    if not replies or replies[-1].WhichOneof("part") != "summary":
        raise errors.ConnectionFailed("the results of the batch broke off")
    return _encode({"results": results, **_document(replies[-1].summary)})


def _document(message: Any) -> dict[str, Any]:
    """*message* as the JSON that HTTP has of it."""
    document: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            document[field.name] = value
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            document[field.name] = value.ToJsonString()
        else:
            document[field.name] = _document(value)
    if "output" in document:
        document["output"] = msgspec.Raw(document["output"])
    return document
