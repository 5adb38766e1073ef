"""`/api/v1/tasks`: describe, list, read, change and delete tasks."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.catalog import schemas
from loopai.ingress import bodies, identity, preconditions, services
from streams import ids, subjects
from streams.messages import Example, TaskSpecification, any_json

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0)]
Description = Annotated[str, msgspec.Meta(max_length=10_000)]


class CreateTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    description: Description = ""
    input_schema: msgspec.Raw = msgspec.field(default_factory=any_json)
    output_schema: msgspec.Raw = msgspec.field(default_factory=any_json)
    examples: tuple[Example, ...] = ()
    accuracy_target: Share = 0.9
    latency_target_ms: Milliseconds = 10.0
    sampling_rate: Share = 0.1


class PatchTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are absent stay as they are. A task's name never changes: it is in subjects."""

    description: Description | msgspec.UnsetType = msgspec.UNSET
    input_schema: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    output_schema: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    examples: tuple[Example, ...] | msgspec.UnsetType = msgspec.UNSET
    accuracy_target: Share | msgspec.UnsetType = msgspec.UNSET
    latency_target_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    sampling_rate: Share | msgspec.UnsetType = msgspec.UNSET


_create = msgspec.json.Decoder(CreateTask)
_patch = msgspec.json.Decoder(PatchTask)


async def create(request: Request) -> Response:
    shared = services.of(request)
    body = bodies.decode(await bodies.read(request, shared.settings.body_bytes_max), _create)
    _check_name(body.name)
    now = datetime.now(UTC)
    task = TaskSpecification(
        id=ids.new(),
        tenant=identity.of(request).tenant,
        name=body.name,
        description=body.description,
        input_schema=body.input_schema,
        output_schema=body.output_schema,
        examples=body.examples,
        accuracy_target=body.accuracy_target,
        latency_target_ms=body.latency_target_ms,
        sampling_rate=body.sampling_rate,
        created_at=now,
        updated_at=now,
    )
    _check(task)
    created = await shared.catalog.create_task(task)
    return _answer(created, 201, {"Location": f"/api/v1/tasks/{created.id}"})


async def list_all(request: Request) -> Response:
    return bodies.json(
        {"tasks": await services.of(request).catalog.tasks(identity.of(request).tenant)}
    )


async def get(request: Request) -> Response:
    catalog = services.of(request).catalog
    return _answer(
        await catalog.specification(identity.of(request).tenant, request.path_params["task"])
    )


async def patch(request: Request) -> Response:
    shared = services.of(request)
    body = bodies.decode(await bodies.read(request, shared.settings.body_bytes_max), _patch)
    fields = {
        name: value
        for name in body.__struct_fields__
        if (value := getattr(body, name)) is not msgspec.UNSET
    }
    now = datetime.now(UTC)

    def change(task: TaskSpecification) -> TaskSpecification:
        changed = msgspec.structs.replace(task, **fields, updated_at=now)
        _check(changed)
        return changed

    changed = await shared.catalog.change_task(
        identity.of(request).tenant,
        request.path_params["task"],
        change,
        revision=preconditions.if_match(request),
    )
    return _answer(changed)


async def delete(request: Request) -> Response:
    await services.of(request).catalog.delete_task(
        identity.of(request).tenant,
        request.path_params["task"],
        revision=preconditions.if_match(request),
    )
    return Response(status_code=204)


def _answer(
    task: TaskSpecification, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return bodies.json(task, status, {**preconditions.etag(task.revision), **(headers or {})})


def _check_name(name: str) -> None:
    if not subjects.is_name(name):
        message = "expected 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
    elif ids.is_id(name):
        message = "a task cannot be called like the id of one"
    else:
        return
    raise errors.ApiError(
        "INVALID_REQUEST", f"/name: {message}", errors=(errors.FieldError("/name", message),)
    )


def _check(task: TaskSpecification) -> None:
    """Schemas must compile and every example must match them. INVALID_REQUEST."""
    found: list[errors.FieldError] = []
    compiled = {}
    for name in ("input_schema", "output_schema"):
        try:
            compiled[name] = schemas.compiled(bytes(getattr(task, name)))
        except schemas.InvalidSchema as error:
            found.append(errors.FieldError(f"/{name}", str(error)))
    if not found:
        for index, example in enumerate(task.examples):
            for name in ("input", "output"):
                try:
                    compiled[f"{name}_schema"].check(
                        bytes(getattr(example, name)), f"/examples/{index}/{name}"
                    )
                except schemas.Invalid as error:
                    found.extend(error.errors)
            if len(found) >= schemas.ERRORS_MAX:
                break
    if found:
        raise errors.ApiError(
            "INVALID_REQUEST",
            f"{found[0].path}: {found[0].message}",
            errors=tuple(found[: schemas.ERRORS_MAX]),
        )


routes = [
    Route("/tasks", create, methods=["POST"]),
    Route("/tasks", list_all, methods=["GET"]),
    Route("/tasks/{task}", get, methods=["GET"]),
    Route("/tasks/{task}", patch, methods=["PATCH"]),
    Route("/tasks/{task}", delete, methods=["DELETE"]),
]
