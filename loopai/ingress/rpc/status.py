"""Problem documents as gRPC has errors: a canonical status, with details (google.rpc.Status)."""

from typing import Any, Final

import grpc
import msgspec
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from loopai import errors
from loopai.ingress import problems

DOMAIN: Final = "loopai"
DETAILS_KEY: Final = "grpc-status-details-bin"
"""Where metadata have a google.rpc.Status: what all libraries of gRPC look for."""
DETAIL_BYTES_MAX: Final = 1_000
"""Of the sentence. It travels twice, once percent-encoded, and a client may refuse metadata of more
than 8 KiB together, with an error that says nothing of ours."""
FIELDS_BYTES_MAX: Final = 2_000
"""Of what is wrong with fields, together: the first of them are told."""
STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    # Not RESOURCE_EXHAUSTED, as gRPC has it of its own limit: clients may send that again.
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.INVALID_ARGUMENT,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""By the HTTP status of a code of `loopai/errors.py`."""
_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "code", "errors"})
"""Of a problem document, what has a place of its own, or none, in a google.rpc.Status."""

Metadata = tuple[tuple[str, str | bytes], ...]


class Refused(Exception):  # noqa: N818 (it says what happened to the call)
    """A call that ends with an error."""

    def __init__(self, code: grpc.StatusCode, detail: str, metadata: Metadata) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.metadata = metadata
        """The trailing metadata."""


def of_error(error: errors.ApiError, trace_id: str) -> Refused:
    return of_document(problems.document(error, trace_id), problems.retry_after_s(error))


def of_document(document: bytes, retry_after_s: int | None) -> Refused:
    """What the problem *document* is here."""
    members: dict[str, Any] = msgspec.json.decode(document)  # any: members differ with the code
    code = STATUS[members["status"]]
    detail = _cut(members["detail"], DETAIL_BYTES_MAX)
    told = {name: str(value) for name, value in members.items() if name not in _MEMBERS}
    told["http_status"] = str(members["status"])
    details: list[Any] = [  # any: messages of several types
        error_details_pb2.ErrorInfo(reason=members["code"], domain=DOMAIN, metadata=told)
    ]
    if fields := members.get("errors"):
        details.append(_bad_request(fields))
    if retry_after_s is not None:
        wait = error_details_pb2.RetryInfo()
        wait.retry_delay.FromSeconds(retry_after_s)
        details.append(wait)
    packed = []
    for each in details:
        one = any_pb2.Any()
        one.Pack(each)
        packed.append(one)
    # The codes of google.rpc are the numbers of gRPC's own.
    status = status_pb2.Status(code=code.value[0], message=detail, details=packed)
    return Refused(code, detail, ((DETAILS_KEY, status.SerializeToString()),))


def _bad_request(fields: list[dict[str, str]]) -> error_details_pb2.BadRequest:
    """As many of *fields* as there is room for."""
    told = error_details_pb2.BadRequest()
    left = FIELDS_BYTES_MAX
    for each in fields:
        path, message = each["path"], each["message"]
        left -= len(path.encode()) + len(message.encode())
        if left < 0:
            break
        told.field_violations.add(field=path, description=message)
    return told


def _cut(text: str, bytes_max: int) -> str:
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    return encoded[: bytes_max - 3].decode(errors="ignore") + "…"
