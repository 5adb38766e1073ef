"""/openapi.json: valid, complete, and true as far as it can be read off the code."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import openapi_spec_validator
import pytest
from starlette.routing import BaseRoute, Mount, Route

from loopai import errors
from loopai.embedded.broker import Broker
from loopai.ingress import access, resources
from loopai.ingress.describe import document, pages
from streams import connection
from tests.contract.headers import undocumented
from tests.integration.ingress.asking import key_for
from tests.system import System

DOCUMENT: dict[str, Any] = msgspec.json.decode(document.encoded())
NOT_PROMISED = {("GET", "/swagger/{file}")}
"""Routes that are no part of the API, with why: the files that the page of Swagger UI loads."""
NO_ANSWER = {"INPUT_IDLE", "RESULTS_UNREAD", "TOO_FEW_EXAMPLES"}
"""Codes that stand in the body of a 200: of a stream that was given up, of an operation."""
OPERATIONS = [
    pytest.param(path, method, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
]


@pytest.fixture
async def front(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "data", pools=())


def test_the_document_is_openapi() -> None:
    """The validator of the specification has nothing to say."""
    openapi_spec_validator.validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.1.0"


def _routes(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _routes(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            yield from ((each, prefix + route.path) for each in (route.methods or set()) - {"HEAD"})


async def test_every_route_is_described_and_no_other(front: System) -> None:
    """A route that the tables leave out, or that was taken away, is found."""
    served = set(_routes(front.app.routes)) - NOT_PROMISED
    described = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert described == served


def test_operations_have_names_of_their_own() -> None:
    """Generated clients make methods of them."""
    names = [
        DOCUMENT["paths"][each.values[0]][each.values[1]]["operationId"] for each in OPERATIONS
    ]
    assert len(set(names)) == len(names)


def test_every_code_can_come_from_somewhere() -> None:
    """A code that no operation names is either dead or undocumented."""
    named = {code for each in document.OPERATIONS for code in document.codes(each)}
    assert named == set(errors.CODES) - NO_ANSWER


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_parameters_of_the_path_are_described(path: str, method: str) -> None:
    """Each name in braces has its parameter."""
    described = DOCUMENT["paths"][path][method].get("parameters", [])
    found = {each["name"] for each in described if each["in"] == "path"}
    assert found == {part[1:-1] for part in path.split("/") if part.startswith("{")}


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_who_may_ask_is_described(path: str, method: str) -> None:
    """The scopes that the route is guarded with, and 401 and 403; nothing where it is public."""
    operation = DOCUMENT["paths"][path][method]
    (name,) = {
        access.name(route)
        for prefix, route in (
            *((resources.PREFIX, each) for each in resources.API),
            *(("", each) for each in (*resources.OUTSIDE, *pages.routes)),
        )
        if prefix + route.path == path and method.upper() in (route.methods or ())
    }
    if name in access.PUBLIC:
        assert operation["security"] == []
        assert not {"401", "403"} & operation["responses"].keys()
    else:
        assert "security" not in operation
        assert tuple(operation["x-scopes"]) == access.NEEDS[name]
        for status in ("401", "403"):
            assert "WWW-Authenticate" in operation["responses"][status]["headers"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_keys_and_limits_are_described(path: str, method: str) -> None:
    """`Idempotency-Key` of every POST and of nothing else, limits of all of the API."""
    operation = DOCUMENT["paths"][path][method]
    is_keyed, is_api = method == "post", path.startswith("/api/")
    names = {each["name"] for each in operation.get("parameters", [])}
    assert ("Idempotency-Key" in names) == is_keyed
    for status, response in operation["responses"].items():
        assert ("RateLimit-Remaining" in response["headers"]) == is_api
        replays = is_keyed and status.startswith("2")
        assert ("Idempotent-Replayed" in response["headers"]) == replays
    assert ("429" in operation["responses"]) == is_api


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_links_fill_the_paths_that_they_lead_to(path: str, method: str) -> None:
    """Each name in the path of the other operation has its place in the answer."""
    paths = {
        operation["operationId"]: path
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
    }
    for response in DOCUMENT["paths"][path][method]["responses"].values():
        for link in response.get("links", {}).values():
            names = {part[1:-1] for part in paths[link["operationId"]].split("/") if "{" in part}
            assert names == link["parameters"].keys()


def test_what_is_made_leads_on() -> None:
    """Every operation on one thing, but a delivery, is reached from where such a thing is made."""
    reached = {
        name
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        for response in operation["responses"].values()
        for name in response.get("links", {})
    }
    named = {
        operation["operationId"]
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
        if "{" in path
    }
    assert named - reached == {"redeliver"}


async def test_headers_that_come_are_described(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """Of answers that make things, of documents, of events and of refusals, behind a key."""
    async with contextlib.AsyncExitStack() as stack:
        fields = {"auth": "required", "rate_limit": "1000/second"}
        front = await System.started(stack, broker, bus, tmp_path / "data", pools=(), **fields)
        _, key = await key_for(front, "admin")
        made = {"url": "https://example.org/hook", "events": ["artifact.created"]}
        asked: list[tuple[str, str, Any]] = [
            ("post", "/api/v1/tasks", {"name": "upper"}),
            ("post", "/api/v1/keys", {"name": "ci", "scopes": ["execute"]}),
            ("post", "/api/v1/webhooks", made),
            ("get", "/api/v1/webhooks", None),
            ("get", "/api/v1/queues", None),
            ("post", "/api/v1/tasks/{task}/generate", {}),
            ("get", "/api/v1/tasks/{task}", None),
            ("post", "/api/v1/tasks/{task}/execute", {"input": 1}),
            ("get", "/api/v1/executions/{execution}", None),
            ("get", "/metrics", None),
            ("get", "/health", None),
            ("get", "/openapi.json", None),
        ]
        for headers in (key, {}):
            for method, path, body in asked:
                target = path.format(task="upper", execution="none")
                answer = await front.http.request(method, target, json=body, headers=headers)
                operation = DOCUMENT["paths"][path][method]
                assert str(answer.status_code) in operation["responses"], path
                assert not undocumented(operation, answer.status_code, answer.headers), path


def _contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from operation.get("requestBody", {}).get("content", {}).values()
    for response in operation["responses"].values():
        yield from response.get("content", {}).values()


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_examples_are_of_their_schemas(path: str, method: str) -> None:
    """Each body and each parameter that is shown is one that would be taken or given."""
    operation = DOCUMENT["paths"][path][method]
    for content in _contents(operation):
        validator = _validator(content["schema"])
        if "example" in content:
            validator.validate(content["example"])
        for reference in content.get("examples", {}).values():
            name = reference["$ref"].rpartition("/")[2]
            validator.validate(DOCUMENT["components"]["examples"][name]["value"])
        assert "example" in content or content["examples"]
    for parameter in operation.get("parameters", []):
        if "example" in parameter:
            _validator(parameter["schema"]).validate(parameter["example"])


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_can_be_tried_again_says_when(path: str, method: str) -> None:
    """Problems of overload have Retry-After, wrong methods have Allow, everything its version."""
    for status, response in DOCUMENT["paths"][path][method]["responses"].items():
        assert "X-Api-Version" in response["headers"]
        if status in {"429", "503"} and path.startswith("/api/"):
            assert "Retry-After" in response["headers"]
        if status == "405":
            assert "Allow" in response["headers"]


async def test_the_document_is_served_and_need_not_be_served_twice(front: System) -> None:
    """Bytes as they were built, with an ETag that saves sending them again."""
    for path in ("/openapi.json", "/asyncapi.json", "/swagger", "/swagger/initializer.js"):
        answer = await front.http.get(path)
        assert answer.status_code == 200
        again = await front.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = await front.http.get(path, headers={"If-None-Match": '"other"'})
        assert other.content == answer.content
    answer = await front.http.get("/openapi.json")
    assert answer.content == document.encoded()
    assert answer.headers["content-type"] == "application/json"
