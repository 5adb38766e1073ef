"""What a call over NATS asks for: a payload in JSON or msgpack, and headers beside it."""

from typing import Final, TypeVar

import msgspec

from loopai import errors
from loopai.ingress import bodies, dispatch, execute, problems, services
from streams import codec, subjects
from streams.messages import ROUTING_KEY_CHARACTERS_MAX, ExecuteItem, RoutingKey, TaskHead

MSGPACK_CONTENT_TYPES: Final = ("application/msgpack", "application/x-msgpack")
VERSION: Final = "Loopai-Version"
TIMEOUT_MS: Final = "Loopai-Timeout-Ms"
FORCE_VALIDATION: Final = "Loopai-Force-Validation"
ROUTING_KEY: Final = "Loopai-Routing-Key"
TRACEPARENT: Final = "traceparent"
NUMBER_DIGITS_MAX: Final = 15

T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a call; what it leaves out a header may say."""

    input: msgspec.Raw
    version: int | None = None
    timeout_ms: int | None = None
    force_validation: bool | None = None
    routing_key: RoutingKey | None = None


_json = msgspec.json.Decoder(Body)
_msgpack = msgspec.msgpack.Decoder(Body)


async def item(
    shared: services.Known, subject: str, headers: dict[str, str], payload: bytes
) -> tuple[TaskHead, ExecuteItem]:
    """The task that *subject* names, and what is to be run of it. errors.ApiError."""
    if len(payload) > shared.settings.body_bytes_max:
        raise bodies.too_large("the payload", shared.settings.body_bytes_max)
    try:
        tenant, name = subjects.owner(subject)
    except ValueError as error:
        raise errors.ApiError("TASK_NOT_FOUND", str(error)) from error
    task = await shared.catalog.task(tenant, name)
    body = _body(headers, payload)
    version = _first(body.version, _number(headers, VERSION))
    timeout_ms = execute.timeout(_first(body.timeout_ms, _number(headers, TIMEOUT_MS)), shared)
    await execute.require_version(shared, task, version)
    return task, dispatch.item(
        execute.checked_input(task, body.input, "/input"),
        version=version,
        timeout_ms=timeout_ms,
        force_validation=bool(_first(body.force_validation, _flag(headers, FORCE_VALIDATION))),
        trace_id=trace_id(headers),
        routing_key=_first(body.routing_key, _key(headers)),
    )


def trace_id(headers: dict[str, str]) -> str:
    """The trace id of the caller's `traceparent` (W3C Trace Context), or a new one."""
    return problems.parent_trace_id(headers.get(TRACEPARENT, ""))


def _body(headers: dict[str, str], payload: bytes) -> Body:
    content_type = headers.get(subjects.CONTENT_TYPE, codec.JSON_CONTENT_TYPE)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == codec.JSON_CONTENT_TYPE:
        return bodies.decode(payload, _json)
    if kind in MSGPACK_CONTENT_TYPES:
        return _of_msgpack(payload)
    raise errors.ApiError(
        "INVALID_QUERY",
        f"{subjects.CONTENT_TYPE}={kind[:100]!r}: expected {codec.JSON_CONTENT_TYPE} or "
        f"{MSGPACK_CONTENT_TYPES[0]}",
    )


def _of_msgpack(payload: bytes) -> Body:
    """The same with its input as JSON. MALFORMED_JSON, INVALID_REQUEST."""
    try:
        body = _msgpack.decode(payload)
        encoded = bodies.encode(msgspec.msgpack.decode(bytes(body.input)))
    except msgspec.ValidationError as error:
        raise bodies.invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.ApiError(
            "MALFORMED_JSON", f"the payload is not msgpack, as its content type says: {error}"
        ) from error
    except (msgspec.EncodeError, TypeError, ValueError, OverflowError) as error:
        raise errors.ApiError(
            "INVALID_REQUEST", f"/input: there is no JSON for it: {error}"
        ) from error
    return msgspec.structs.replace(body, input=msgspec.Raw(encoded))


def _first(told: T | None, otherwise: T | None) -> T | None:
    return otherwise if told is None else told


def _number(headers: dict[str, str], name: str) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX):
        raise errors.ApiError("INVALID_QUERY", f"{name}={text[:100]!r}: expected a whole number")
    return int(text)


def _flag(headers: dict[str, str], name: str) -> bool | None:
    text = headers.get(name)
    if text not in {None, "true", "false"}:
        raise errors.ApiError("INVALID_QUERY", f"{name}={text[:100]!r}: expected true or false")
    return None if text is None else text == "true"


def _key(headers: dict[str, str]) -> str | None:
    text = headers.get(ROUTING_KEY)
    if text is not None and not 1 <= len(text) <= ROUTING_KEY_CHARACTERS_MAX:
        raise errors.ApiError(
            "INVALID_QUERY", f"{ROUTING_KEY}: expected 1 to {ROUTING_KEY_CHARACTERS_MAX} characters"
        )
    return text
