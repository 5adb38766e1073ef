"""What every refusal must look like."""

from typing import Any

import httpx

from loopai import errors


def problem(answer: httpx.Response, code: str) -> dict[str, Any]:
    """The problem document (RFC 9457) of *answer*, which must be a whole one with *code*."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert document["code"] == code, document
    assert answer.status_code == document["status"] == errors.CODES[code].status
    assert document["type"] == f"urn:loopai:error:{code}"
    assert document["title"] == errors.CODES[code].title
    assert document["detail"]
    assert len(document["trace_id"]) == 32
    assert answer.headers["x-api-version"] == "1"
    return document


def paths(document: dict[str, Any]) -> list[str]:
    """Where the errors of *document* are, as JSON Pointers."""
    return [each["path"] for each in document["errors"]]
