"""Media types, codings and versions that a request names, on the hot path and beside it."""

import pytest

from tests.integration.ingress.sockets import Wire, request
from tests.system import System

EXECUTE = "/api/v1/tasks/upper/execute"
WAYS = {"hot": EXECUTE, "general": f"{EXECUTE}?wait=300", "another": "/api/v1/tasks"}
REFUSED = {
    "Content-Type: text/plain": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Type: application/xml": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Type: multipart/form-data; boundary=x": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Type: application/x-ndjson": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Type: application/json; charset=latin-1": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Type:": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://evil.example": (
        "UNSUPPORTED_MEDIA_TYPE"
    ),
    "Origin: http://evil.example": "UNSUPPORTED_MEDIA_TYPE",
    "Content-Encoding: gzip": "UNSUPPORTED_MEDIA_TYPE",
    "Accept: text/html": "NOT_ACCEPTABLE",
    "Accept: application/json;q=0": "NOT_ACCEPTABLE",
    "Accept: */*, application/*;q=0": "NOT_ACCEPTABLE",
    "Accept: \xff/\xff": "NOT_ACCEPTABLE",
    "Accept: " + "a/b," * 5000: "NOT_ACCEPTABLE",
    "X-Api-Version: 2": "UNSUPPORTED_VERSION",
    "X-Api-Version: 1.0": "UNSUPPORTED_VERSION",
    "X-Api-Version: 1\r\nX-Api-Version: 2": "UNSUPPORTED_VERSION",
    "X-Api-Version:": "UNSUPPORTED_VERSION",
}
TAKEN = [
    "Content-Type: application/json",
    "Content-Type: APPLICATION/JSON ; charset=UTF-8",
    'Content-Type: application/json;charset="utf-8"',
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Encoding: identity",
    "Accept: */*",
    "Accept:",
    "Accept: text/html, application/*;q=0.1",
    "Accept: text/html;q=1.0,*/*;q=0.001",
    "Accept: application/json;q=1;x=y",
    "X-Api-Version: 1",
    "Content-Type: application/json\r\nOrigin: http://dashboard.example",
]


@pytest.mark.parametrize("way", WAYS)
async def test_what_cannot_be_read_or_answered_is_refused(front: System, way: str) -> None:
    """Before anything has happened, with a problem document that names the header."""
    await front.create()
    async with Wire(front) as wire:
        for headers, code in REFUSED.items():
            document = (await wire.say(request(WAYS[way], b"{}", headers))).problem(code)
            named = ("Content-", "charset", "Accept", "X-Api-Version")
            assert document["detail"].startswith(named)


@pytest.mark.parametrize("way", WAYS)
async def test_what_can_be_read_and_answered_is(front: System, way: str) -> None:
    """Whatever clients in use say of JSON, curl's habit included, is understood."""
    await front.create()
    async with Wire(front) as wire:
        for headers in TAKEN:
            (await wire.say(request(WAYS[way], b"{}", headers))).problem("INVALID_REQUEST")


async def test_no_body_needs_no_type(front: System) -> None:
    """Where a body may be left out, what a client says of none does not matter."""
    await front.create()
    answer = await front.http.post(
        "/api/v1/tasks/upper/artifacts/9/activate", headers={"Content-Type": "text/plain"}
    )
    assert answer.json()["code"] == "ARTIFACT_NOT_FOUND"


async def test_each_route_gives_what_it_is_asked_for(front: System) -> None:
    """A program is text, metrics are text, and neither is given to who takes JSON only."""
    await front.create()
    for path, media in (
        ("/api/v1/tasks/upper/artifacts/1/program", "text/x-python"),
        ("/metrics", "text/plain"),
        ("/swagger", "text/html"),
        ("/openapi.json", "application/json"),
    ):
        answer = await front.http.get(path, headers={"Accept": media})
        assert answer.headers["content-type"].startswith(media)
        refused = await front.http.get(path, headers={"Accept": "image/png"})
        assert refused.json()["code"] == "NOT_ACCEPTABLE"


async def test_an_unknown_place_is_unknown_whatever_is_accepted(front: System) -> None:
    """404 and 405 go before what the request says of itself."""
    headers = {"Accept": "image/png", "Content-Type": "text/plain", "X-Api-Version": "7"}
    unknown = await front.http.post("/api/v1/nope", content=b"x", headers=headers)
    assert unknown.json()["code"] == "NOT_FOUND"
    wrong = await front.http.put("/api/v1/tasks", content=b"x", headers=headers)
    assert wrong.json()["code"] == "METHOD_NOT_ALLOWED"
