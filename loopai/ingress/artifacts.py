"""`/api/v1/tasks/{task}/artifacts`: versions of a task's program, uploaded, read and activated."""

import asyncio
from datetime import UTC, datetime
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.catalog.catalog import new_artifact
from loopai.catalog.rollouts import Change
from loopai.ingress import (
    admit,
    bodies,
    identity,
    preconditions,
    problems,
    rollouts,
    services,
    tags,
)
from loopai.synthesis import screening
from streams import topology
from streams.messages import Isolation, Language, ProgramArtifact, TaskHead

FOR_EVER = "max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
VERSION_DIGITS_MAX = 18


UPLOAD_BYTES_MAX = 2 * screening.CODE_BYTES_MAX + topology.MIB // 4
"""A program of the largest size, with line breaks and quotes that JSON doubles."""
MEDIA_TYPES: dict[Language, str] = {
    "python": "text/x-python",
    "javascript": "text/javascript",
    "typescript": "text/typescript",
}


class Upload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    code: str
    language: Literal["python", "javascript", "typescript"] = "python"
    isolation: Isolation | None = None
    """None: as the check finds it needs."""
    activate: bool = False


class Activate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force: bool = False


_upload = msgspec.json.Decoder(Upload)
_activate = msgspec.json.Decoder(Activate)


async def upload(request: Request) -> Response:
    shared = services.of(request)
    raw = await bodies.read(request, max(shared.settings.body_bytes_max, UPLOAD_BYTES_MAX))
    body = bodies.decode(raw, _upload)
    if body.activate:
        identity.require_also(request, ("operate",), '`"activate": true`')
    # A byte order mark, which some editors write, is no part of the program.
    code = body.code.removeprefix("\ufeff")
    task = await shared.catalog.specification(
        identity.of(request).tenant, request.path_params["task"]
    )
    try:
        # Parsing a large program takes a tenth of a second, which the event loop has not.
        complexity = await asyncio.to_thread(screening.screen, code, body.language)
    except screening.Refused as error:
        raise errors.ApiError(
            "INVALID_PROGRAM",
            str(error),
            errors=(errors.FieldError("/code", str(error)),),
            **({} if error.line is None else {"line": error.line}),
        ) from error
    found = await admit.ask(
        shared,
        task.tenant,
        body.language,
        code,
        isolation=body.isolation,
        examples=task.examples,
        trace_id=problems.trace_id(request),
    )
    now = datetime.now(UTC)
    artifact = await shared.catalog.create_artifact(
        msgspec.structs.replace(
            new_artifact(
                task.id, language=body.language, created_by=identity.of(request).name, now=now
            ),
            status="validated",
            status_reason=f"uploaded by hand, not evaluated; {found.reason}",
            isolation=found.isolation,
            complexity_metrics=msgspec.structs.replace(
                complexity, estimated_latency_ms=found.latency_ms
            ),
        ),
        code,
    )
    if body.activate:
        await shared.catalog.activate(artifact, by=identity.of(request).name, now=now)
        artifact = msgspec.structs.replace(artifact, status="active", deployed_at=now)
    location = f"/api/v1/tasks/{task.id}/artifacts/{artifact.version}"
    return bodies.json(artifact, 201, {"Location": location})


async def list_all(request: Request) -> Response:
    catalog = services.of(request).catalog
    task = await catalog.task(identity.of(request).tenant, request.path_params["task"])
    return bodies.json({"artifacts": await catalog.artifacts(task.id)})


async def get(request: Request) -> Response:
    _, artifact = await _named(request)
    code = await services.of(request).catalog.code(artifact)
    return bodies.json({**msgspec.structs.asdict(artifact), "code": code})


async def program(request: Request) -> Response:
    task, artifact = await _named(request)
    tag = f'"{artifact.digest}"'
    # A version never changes, so whoever has it need not ask again. But a name may pass to another
    # task, whose version 1 is another program.
    by_id = request.path_params["task"] == task.id
    # What takes a credential must not be given to others by a cache between.
    whose = "public" if services.of(request).callers is None else "private"
    kept = f"{whose}, {FOR_EVER if by_id else ASK_AGAIN}"
    headers = {"ETag": tag, "Cache-Control": kept}
    if tags.names(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    code = await services.of(request).catalog.code(artifact)
    return Response(
        code, headers=headers, media_type=MEDIA_TYPES.get(artifact.language, "text/plain")
    )


async def activate(request: Request) -> Response:
    shared = services.of(request)
    raw = await bodies.read(request, shared.settings.body_bytes_max)
    body = bodies.decode(raw or b"{}", _activate)
    task, artifact = await _named(request)
    changed = await shared.catalog.change_rollout(
        task.id,
        Change(active=artifact.version, force=body.force),
        by=identity.of(request).name,
        now=datetime.now(UTC),
        revision=preconditions.if_match(request),
    )
    return rollouts.answer(*changed)


async def _named(request: Request) -> tuple[TaskHead, ProgramArtifact]:
    catalog = services.of(request).catalog
    task = await catalog.task(identity.of(request).tenant, request.path_params["task"])
    version = request.path_params["version"]
    if not (version.isdecimal() and len(version) <= VERSION_DIGITS_MAX):
        raise errors.ApiError("ARTIFACT_NOT_FOUND", f"the task has no version {version[:64]!r}")
    return task, await catalog.artifact(task.id, int(version))


routes = [
    Route("/tasks/{task}/artifacts", upload, methods=["POST"]),
    Route("/tasks/{task}/artifacts", list_all, methods=["GET"]),
    Route("/tasks/{task}/artifacts/{version}", get, methods=["GET"]),
    Route("/tasks/{task}/artifacts/{version}/program", program, methods=["GET"]),
    Route("/tasks/{task}/artifacts/{version}/activate", activate, methods=["POST"]),
]
