"""Request bodies and answers: bounded, decoded once, with an error that names the field."""

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from loopai import choices, domain, errors
from loopai.ingress import services

T = TypeVar("T")
B = TypeVar("B", bytes, bytearray)

BYTES_A_SECOND: Final = 4096
"""Who sends a body slower than that, `receive_s` aside, holds a connection and sends nothing."""

TWICE: Final = "is given in snake_case and in camelCase; send one of them"

_encoder = msgspec.json.Encoder()
_AT: Final = re.compile(r"^(?P<message>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_LISTS: Final = ("items", "examples")
"""Fields that hold lists of our own objects, whose keys may be camelCase as well."""


async def read(request: Request, bytes_max: int) -> bytes:
    """The whole body. BODY_TOO_LARGE as soon as it is known to be; REQUEST_TIMEOUT."""
    receive_s = services.of(request).settings.receive_s
    declared = request.headers.get("content-length")
    return await receive_all(request.receive, declared, bytes_max=bytes_max, receive_s=receive_s)


async def receive_all(
    receive: Receive, declared: str | None, *, bytes_max: int, receive_s: int
) -> bytes:
    """The body that *receive* gives. BODY_TOO_LARGE, REQUEST_TIMEOUT, ClientDisconnect."""
    if declared is not None and declared.isdigit() and int(declared) > bytes_max:
        raise too_large("the body", bytes_max)
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(receive_s) as patience:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body", False):
                return _bounded(
                    body, bytes_max
                )  # mostly it comes in one piece, which is not copied
            parts = bytearray(body)
            while message["type"] != "http.disconnect":
                _bounded(parts, bytes_max)
                if not message.get("more_body", False):
                    return bytes(parts)
                patience.reschedule(began + receive_s + len(parts) / BYTES_A_SECOND)
                message = await receive()
                parts += message.get("body", b"")
    except TimeoutError as error:
        raise too_slow(receive_s) from error
    raise ClientDisconnect


def _bounded(body: B, bytes_max: int) -> B:
    """*body* itself. BODY_TOO_LARGE."""
    if len(body) > bytes_max:
        raise too_large("the body", bytes_max)
    return body


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """*body* as the decoder's type; snake_case, or camelCase as the original's clients send it.

    Not both of one field; of equal keys the last one counts. MALFORMED_JSON, INVALID_REQUEST.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            return decoder.decode(_snake_case(body))
    except msgspec.ValidationError as error:
        raise invalid(error, decoder.type) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = domain.unreadable(error) if body else "it is empty"
        raise errors.ApiError("MALFORMED_JSON", f"the body is not JSON: {reason}") from error


encode = _encoder.encode


def json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encoder.encode(value), status, headers=headers, media_type="application/json")


def seconds(text: str | None, name: str, most: float) -> float | None:
    """The number of seconds in *text*, from 0 to *most*; None where there is none."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise errors.ApiError(
            "INVALID_QUERY", f"{name}={text[:100]!r}: expected 0 to {most:g} seconds"
        )
    return value


def too_slow(receive_s: int) -> errors.ApiError:
    return errors.ApiError(
        "REQUEST_TIMEOUT",
        f"the request was not here in {receive_s} s and another for each {BYTES_A_SECOND} bytes",
    )


def too_large(what: str, bytes_max: int) -> errors.ApiError:
    return errors.ApiError(
        "BODY_TOO_LARGE", f"{what} is larger than {bytes_max} bytes", limit_bytes=bytes_max
    )


def invalid(error: msgspec.ValidationError, wanted: object = None) -> errors.ApiError:
    """The problem that *error* is; where it was one of a few words that was *wanted*, with them."""
    matched = _AT.match(str(error))
    message = matched["message"] if matched else str(error)
    path = _pointer(matched["path"] or "") if matched else ""
    if message.startswith("Invalid enum value"):
        message += f"; expected {', '.join(choices.at(wanted, path))}"
    return errors.ApiError(
        "INVALID_REQUEST",
        f"{path or 'the body'}: {message}",
        errors=(errors.FieldError(path, message),),
    )


def _pointer(path: str) -> str:
    """The JSON Pointer `/items/3/input` for msgspec's `.items[3].input`."""
    return re.sub(r"\.|\[", "/", path.replace("]", ""))


def _snake_case(body: bytes) -> bytes:
    """*body* with the keys of our own objects in snake_case. Raises what decoding raises."""
    # The few names of ten thousand items are changed once each: 16 ms for them all, not 34.
    rename = functools.cache(snake_case)
    fields = _renamed(msgspec.json.decode(body, type=dict[str, msgspec.Raw]), rename, "")
    for name in _LISTS:
        if name in fields:
            with contextlib.suppress(
                msgspec.ValidationError
            ):  # the caller's decoder says it better
                objects = msgspec.json.decode(fields[name], type=list[dict[str, msgspec.Raw]])
                fields[name] = msgspec.Raw(
                    _encoder.encode(
                        [
                            _renamed(each, rename, f"/{name}/{index}")
                            for index, each in enumerate(objects)
                        ]
                    )
                )
    return _encoder.encode(fields)


def _renamed(
    fields: dict[str, msgspec.Raw], rename: Callable[[str], str], place: str
) -> dict[str, msgspec.Raw]:
    """*fields*, which stand at *place*, in snake_case. INVALID_REQUEST where one has two forms."""
    renamed = {rename(name): value for name, value in fields.items()}
    if len(renamed) < len(fields):
        path, message = f"{place}/{twice(fields)}", TWICE
        raise errors.ApiError(
            "INVALID_REQUEST",
            f"{path}: {message}",
            errors=(errors.FieldError(path, message),),
        )
    return renamed


def twice(names: Iterable[str]) -> str:
    """The first of *names*, in snake_case, that another one means as well; or nothing."""
    seen: set[str] = set()
    for name in map(snake_case, names):
        if name in seen:
            return name
        seen.add(name)
    return ""


def snake_case(name: str) -> str:
    """`task_id` for `taskId`."""
    return _CAMEL.sub(r"_\1", name).lower()
