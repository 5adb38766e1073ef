"""Requests as values: what is sent, before anybody sends it."""

import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

BASE: Final = "/api/v1"
JSON: Final = "application/json"
UNSET: Final = msgspec.UNSET

_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    content: bytes | None = None
    least_s: float = 0.0
    """The server may take so long by rights: the deadline is no sooner."""


def request(
    method: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = UNSET,
    if_match: int | None = None,
    idempotency_key: str | None = None,
    least_s: float = 0.0,
) -> Request:
    """A request for *path*; None in *query*, and UNSET in *body*, are left out."""
    headers = {}
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    content = None
    if body is not UNSET:
        headers["Content-Type"] = JSON
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if value is not UNSET}
        content = _encode(body)
    return Request(
        method=method,
        path=path,
        query={name: _text(value) for name, value in (query or {}).items() if value is not None},
        headers=headers,
        content=content,
        least_s=least_s,
    )


def path(*parts: str | int) -> str:
    """`/api/v1/…`: each part is one segment, whatever is in it."""
    return "/".join((BASE, *(quote(str(part), safe="") for part in parts)))


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return secrets.token_hex(16)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: None stands for none."""
    return {name: value for name, value in fields.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
