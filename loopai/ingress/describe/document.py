"""`/openapi.json`: the API as OpenAPI 3.1, made of the tables beside this module."""

import functools
import http
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from loopai import errors
from loopai.ingress.describe import catalog, executions, forms, hooks, links, posts, rights, shapes
from loopai.ingress.describe.operation import EVENTS, NDJSON, Answer, Body, Operation, Parameter
from loopai.ingress.describe.parameters import EVERYWHERE, IDEMPOTENT, TRACE_ID

OPERATIONS: Final[tuple[Operation, ...]] = (
    *catalog.TASKS,
    *catalog.GENERATION,
    *hooks.OF_OPERATIONS,
    *catalog.VERSIONS,
    *catalog.ROLLOUTS,
    *executions.EXECUTE,
    *executions.EXECUTIONS,
    *hooks.OF_EXECUTIONS,
    *executions.BATCHES,
    *hooks.WEBHOOKS,
    *hooks.KEYS,
    *executions.STATE,
    *executions.HEALTH,
    *executions.DOCUMENTS,
)
ALWAYS: Final = ("MALFORMED_REQUEST", "HEADERS_TOO_LARGE", "REQUEST_TIMEOUT", "INTERNAL")
"""Codes that any request may get."""
GUARDED: Final = ("UNAUTHENTICATED", "FORBIDDEN", "ISSUER_UNAVAILABLE")
"""Codes that any request may get where one must say who one is."""
API: Final = (
    *("UNSUPPORTED_VERSION", "INVALID_QUERY", "UNAVAILABLE", "RATE_LIMITED"),
    *GUARDED,
)
"""Codes that any request to the API may get."""
WITH_BODY: Final = (
    "MALFORMED_JSON",
    "UNSUPPORTED_MEDIA_TYPE",
    "BODY_TOO_LARGE",
    "INVALID_REQUEST",
)
WITH_KEY: Final = ("IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_IN_USE", "ANSWER_NOT_KEPT")
"""Where `Idempotency-Key` is heeded."""
WITH_PLACE: Final = ("NOT_FOUND", "METHOD_NOT_ALLOWED")
"""Where the path holds a name: one with a slash in it is another path."""
SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT)."},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "An API key."},
}
"""Security schemes (OpenAPI), by name: one of them will do."""
TAGS: Final = {
    "tasks": "What is to be done: words, schemas, labelled examples.",
    "generation": "Programs made from examples.",
    "versions": "The programs of a task, numbered; what is stored never changes.",
    "rollouts": "Which version answers, for how many, and the way back.",
    "executions": "Inputs in, recorded results out.",
    "webhooks": "Events posted to whoever subscribes.",
    "keys": "Who may do what.",
    "state": "What waits, what runs, and how far sites are.",
    "health": "For probes and Prometheus.",
    "documents": "What the API and the bus say of themselves.",
}
REPLAYED: Final = "Idempotent-Replayed"
UNGATHERED: Final = "X-Accel-Buffering"
_COUNT: Final = {"type": "integer", "minimum": 0}
HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "X-Api-Version": ("The version of the API that answers.", {"type": "string", "enum": ["1"]}),
    "ETag": ("The revision, or the digest, of what is answered.", {"type": "string"}),
    "Location": ("Where to look it up.", {"type": "string"}),
    "Cache-Control": ("How long it may be kept.", {"type": "string"}),
    UNGATHERED: ("`no`: a proxy is not to gather events.", {"type": "string", "enum": ["no"]}),
    "Preference-Applied": ("What was heeded of `Prefer`.", {"type": "string"}),
    "Retry-After": ("Seconds to wait before trying again.", {"type": "integer", "minimum": 0}),
    "Allow": ("The methods of this path.", {"type": "string"}),
    "WWW-Authenticate": ("What credential or scope is asked for (RFC 6750).", {"type": "string"}),
    REPLAYED: ("`true`: the answer that was given before.", {"type": "string", "enum": ["true"]}),
    "RateLimit-Limit": ("What the caller may send; none where there is no limit.", _COUNT),
    "RateLimit-Remaining": ("What is left of it.", _COUNT),
    "RateLimit-Reset": ("Seconds until all of it is back.", _COUNT),
}
LIMITS: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
"""Headers that any answer of the API has where the caller has a rate or a quota."""
PROBLEM: Final = "application/problem+json"
SchemaOf = Callable[[Any], dict[str, Any]]  # any: a type; JSON Schema is
_REF: Final = "#/components/schemas/{name}"
_TEXT: Final = """\
Turn a task into a program once, and run it millions of times: durable, sandboxed, audited.

Bodies are UTF-8 JSON in snake_case; requests may be in camelCase as well, but not with both forms
of one field. Of equal keys in an object the last one counts. Unknown fields are refused. Errors are
problem documents (RFC 9457): act on `code`."""


@functools.cache
def build() -> dict[str, Any]:  # any: an OpenAPI document is
    """The document; not to be changed."""
    types = _types()
    schemas, components = forms.components(types, _REF)
    by_type: dict[str, dict[str, Any]] = dict(zip(map(str, types), schemas, strict=True))

    def schema_of(found: Any) -> dict[str, Any]:  # any: a type, or several
        if isinstance(found, tuple):
            return {"anyOf": [by_type[str(each)] for each in found]}
        return by_type[str(found)]

    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schema_of)
    forms.require_defaults(components, except_in=[each["requestBody"] for each in _bodies(paths)])
    document = {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Loopai",
            "version": importlib.metadata.version("loopai"),
            "description": _TEXT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{name: []} for name in SECURITY],
        "paths": paths,
        "webhooks": posts.webhooks(schema_of),
        "components": {
            "schemas": components,
            "examples": {code: {"value": example(code)} for code in errors.CODES},
            "headers": {
                name: {"description": text, "schema": schema}
                for name, (text, schema) in HEADERS.items()
            },
            "securitySchemes": SECURITY,
        },
    }
    # There and back: defaults that are tuples are no JSON yet.
    return msgspec.json.decode(msgspec.json.encode(document), type=dict[str, Any])


def encoded() -> bytes:
    return msgspec.json.encode(build())


def codes(of: Operation) -> tuple[str, ...]:
    """Every code that *of* can answer with, in the order of the table of errors."""
    found = {*ALWAYS, *of.errors}
    if of.gives:
        found.add("NOT_ACCEPTABLE")
    if of.is_api:
        found.update(API)
    if rights.scopes(of):
        found.update(GUARDED)
    if of.body:
        found.update(WITH_BODY)
    if of.is_keyed:
        found.update(WITH_KEY)
    if "{" in of.path:
        found.update(WITH_PLACE)
    return tuple(code for code in errors.CODES if code in found)


def example(code: str) -> dict[str, Any]:  # any: a problem document is
    """A problem document with *code*, as short as they get."""
    status, title = errors.CODES[code][:2]
    return {
        "type": f"urn:loopai:error:{code}",
        "title": title,
        "status": status,
        "detail": "what is wrong, and how to mend it",
        "code": code,
        "trace_id": TRACE_ID,
    }


def parameters(of: Operation) -> tuple[Parameter, ...]:
    """All that *of* takes, but for what every operation of the API does."""
    return (*of.parameters, *((IDEMPOTENT,) if of.is_keyed else ()))


def _bodies(paths: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The operations that have one."""
    for methods in paths.values():
        yield from (each for each in methods.values() if "requestBody" in each)


def _types() -> list[Any]:
    """All types that bodies and answers have, once each."""
    found: list[Any] = [shapes.ProblemDocument, shapes.ServerSentEvent, *posts.types()]
    for each in OPERATIONS:
        if each.body:
            found.append(each.body.type)
        for one in each.answers:
            found += one.type if isinstance(one.type, tuple) else [one.type] if one.type else []
    return list({str(each): each for each in found}.values())


def _operation(of: Operation, schema_of: SchemaOf) -> dict[str, Any]:
    taken = (*parameters(of), *(EVERYWHERE if of.is_api else ()))
    guarded = ("Cache-Control",) if rights.scopes(of) else ()
    always = ("X-Api-Version", *guarded, *(LIMITS if of.is_api else ()))
    responses: dict[str, dict[str, Any]] = {}
    for one in of.answers:
        headers = (*always, *((REPLAYED,) if of.is_keyed else ()))
        led = links.links(of, one.status, OPERATIONS)
        responses[str(one.status)] = {
            **_answer(one, schema_of, headers),
            **({"links": led} if led else {}),
        }
    for status, response in _problems(codes(of), always):
        if status in responses:  # of a probe, whose 503 is no problem document only
            responses[status]["content"].update(response["content"])
        else:
            responses[status] = response
    described = {
        "operationId": of.id,
        "tags": [of.tag],
        "summary": of.summary,
        "description": "\n\n".join(filter(None, (of.text, rights.permission(of)))),
        "parameters": [_parameter(each) for each in taken],
        "responses": dict(sorted(responses.items())),
    }
    if of.body:
        described["requestBody"] = _body(of.body, schema_of)
    found = {name: value for name, value in described.items() if value}
    needed = rights.scopes(of)
    return {**found, "x-scopes": needed} if needed else {**found, "security": []}


def _parameter(of: Parameter) -> dict[str, Any]:
    return {
        "name": of.name,
        "in": of.where,
        "required": of.where == "path",
        "description": of.summary,
        "schema": of.schema,
        **({} if of.example is None else {"example": of.example}),
    }


def _body(of: Body, schema_of: SchemaOf) -> dict[str, Any]:
    content = {
        media: _lines(of.example["items"])
        if media == NDJSON
        else {"schema": schema_of(of.type), "example": of.example}
        for media in of.media
    }
    return {"required": of.required, "content": content}


def _answer(of: Answer, schema_of: SchemaOf, always: tuple[str, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": of.summary,
        "headers": _headers(
            *always, *of.headers, *(("Cache-Control", UNGATHERED) if of.as_events else ())
        ),
    }
    content: dict[str, Any] = {}
    if of.type is not None:
        content = {
            media: _lines([*of.example["results"], {"summary": "…"}])
            if media == NDJSON
            else {"schema": schema_of(of.type), "example": of.example}
            for media in of.media
        }
    if of.as_events:
        # Of each event: that is what tools take the schema of this media type for.
        content[EVENTS] = {"schema": schema_of(shapes.ServerSentEvent), "example": of.as_events}
    return {**described, "content": content} if content else described


def _lines(of: Iterable[Any]) -> dict[str, Any]:
    """A body of lines: JSON Schema has no word for what each of them is."""
    example = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in of)
    return {"schema": {"type": "string"}, "example": example}


def _problems(of: Iterable[str], always: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    by_status: dict[int, list[str]] = {}
    for code in of:
        by_status.setdefault(errors.CODES[code].status, []).append(code)
    for status, found in by_status.items():
        headers = [*always]
        if status in {http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.TOO_MANY_REQUESTS}:
            headers.append("Retry-After")
        if status == http.HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append("Allow")
        if status in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
            headers.append("WWW-Authenticate")
        schema = {
            "allOf": [
                {"$ref": _REF.format(name=shapes.ProblemDocument.__name__)},
                {"properties": {"code": {"enum": found}, "status": {"const": status}}},
            ]
        }
        yield (
            str(status),
            {
                "description": " ".join(f"`{code}`: {errors.CODES[code].title}" for code in found),
                "headers": _headers(*headers),
                "content": {
                    PROBLEM: {
                        "schema": schema,
                        "examples": {
                            code: {"$ref": f"#/components/examples/{code}"} for code in found
                        },
                    }
                },
            },
        )


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def described(method: str, path: str) -> Operation | None:
    """What is said of *method* on *path*; None where nothing is."""
    return _by_route().get((method, path))


@functools.cache
def _by_route() -> dict[tuple[str, str], Operation]:
    return {(each.method, each.path): each for each in OPERATIONS}
