"""Revisions as HTTP has them: `ETag` in answers, `If-Match` in requests (RFC 9110)."""

from typing import Final

from starlette.requests import Request

from loopai import errors

REVISION_DIGITS_MAX: Final = 20
"""Sequences of a stream are 64-bit numbers."""


def etag(revision: int) -> dict[str, str]:
    """The header that names *revision*."""
    return {"ETag": f'"{revision}"'}


def if_match(request: Request) -> int | None:
    """The revision that the caller insists on; None where any will do. INVALID_QUERY."""
    tag = request.headers.get("if-match")
    if tag is None or tag == "*":
        return None
    revision = tag.strip().removeprefix("W/").strip('"')
    if not (revision.isdecimal() and len(revision) <= REVISION_DIGITS_MAX):
        raise errors.ApiError(
            "INVALID_QUERY", f"If-Match {tag[:100]!r}: expected the ETag of a GET"
        )
    return int(revision)
