"""`POST /api/v1/tasks/{task}/execute`: the hot path, from a body to a recorded result."""

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from loopai import errors, views
from loopai.catalog import schemas
from loopai.ingress import (
    bodies,
    dispatch,
    idempotency,
    identity,
    leaving,
    once,
    problems,
    services,
)
from loopai.sandbox import limits
from streams import publisher
from streams.messages import DeadLetter, EncodedJson, ExecuteItem, RoutingKey, TaskHead

INPUT_BYTES_MAX: Final = limits.Limits().input_bytes_max
"""Of one input, however large a body may be: what a cell takes, and a record must fit a message."""
WAIT_MAX_S: Final = 300.0
_PREFER_WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,9})")


class Execute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: msgspec.Raw
    version: int | None = None
    timeout_ms: int | None = None
    force_validation: bool = False
    routing_key: RoutingKey | None = None
    idempotency_key: idempotency.Key | None = None
    """The same as the header, for who cannot set one."""


class ExecuteTask(Execute, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task_id: str


_REFUSED: Final = (
    errors.ApiError,
    publisher.BacklogFull,
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)

_execute = msgspec.json.Decoder(Execute)
_execute_task = msgspec.json.Decoder(ExecuteTask)


async def execute(request: Request) -> Response:
    raw = await bodies.read(request, services.of(request).settings.body_bytes_max)
    return await _run(request, raw, bodies.decode(raw, _execute), request.path_params["task"])


async def execute_named(request: Request) -> Response:
    """The same with the task in the body, as the original's clients send it."""
    raw = await bodies.read(request, services.of(request).settings.body_bytes_max)
    body = bodies.decode(raw, _execute_task)
    return await _run(request, raw, body, body.task_id)


class Call(dispatch.Waiter, Protocol):
    """What `begin` needs of a request whose answer is awaited."""

    scope: Scope
    tenant: str
    task: str
    body: bytes | bytearray
    parent: str
    """Its `traceparent`, or nothing."""
    execution_id: str

    def refused(self, error: errors.ApiError) -> None:
        """There is no room for it now; its connection is not read until there is."""


def begin(shared: services.Services, call: Call) -> bool:
    """Send what *call* asks for, at once; False where the general way has to see to it.

    Nothing has happened then. Else *call* is told what becomes of it, once.
    """
    try:
        shared.dispatcher.require_room()
    except errors.ApiError as error:
        # Before anything else, and not the general way: with what is refused costing as much as
        # what is done, overload would leave nothing for the callers that were let in.
        call.refused(error)
        return True
    limiter = shared.limiter
    limited = limiter.limits(identity.of_scope(call.scope))
    if limited and not limiter.is_shared:
        try:
            limiter.spend_now(call.scope, "requests")
        except errors.ApiError as error:
            call.failed(error)
            return True
    try:
        body = _execute.decode(call.body)
        task = shared.catalog.find(call.tenant, call.task)
        if (
            task is None
            or body.version is not None
            or body.idempotency_key is not None
            or (limited and limiter.is_shared)
            or shared.catalog.active_version(task.id) is None
        ):
            return False
        item = dispatch.item(
            checked_input(task, body.input, "/input"),
            version=None,
            timeout_ms=timeout(body.timeout_ms, shared),
            force_validation=body.force_validation,
            trace_id=problems.parent_trace_id(call.parent),
            routing_key=body.routing_key,
        )
        if limited:
            limiter.spend_now(call.scope, "executions")
        shared.dispatcher.begin(task, item, "interactive", call)
    except _REFUSED:
        return False
    call.execution_id = item.id
    return True


async def _run(request: Request, raw: bytes, body: Execute, reference: str) -> Response:
    shared = services.of(request)
    wait_s = _wait_s(request)

    async def make() -> tuple[TaskHead, ExecuteItem]:
        task = await shared.catalog.task(identity.of(request).tenant, reference)
        item = await _item(shared, task, body, problems.trace_id(request))
        await shared.limiter.spend(request.scope, "executions")
        return task, item

    key = _key(request, body)
    if key is not None:
        running = await shared.once.begin(idempotency.keyed(request.scope, key, raw), make)
        return await _once(running, wait_s)
    task, item = await make()
    if wait_s == 0:
        await shared.dispatcher.submit(task, item, "interactive")
        return _accepted(task.id, item.id)
    try:
        record = await leaving.unless_left(
            request, shared.dispatcher.execute(task, item, "interactive", wait_s=wait_s)
        )
    except dispatch.StillQueued:
        return _accepted(task.id, item.id)
    return bodies.json(views.execution(record))


async def _once(running: once.Running, wait_s: float | None) -> Response:
    """The answer to one of those who ask for *running*, after *wait_s* at most."""
    headers = idempotency.REPLAYED if running.replayed else {}
    try:
        async with asyncio.timeout(wait_s):
            ended = await asyncio.shield(running.ended)
    except TimeoutError:
        return _accepted(running.claim.task_id, running.claim.execution_id, headers)
    if isinstance(ended, DeadLetter):
        return bodies.json(views.dead(running.claim.execution_id, ended), headers=headers)
    return bodies.json(views.execution(ended), headers=headers)


def _key(request: Request, body: Execute) -> str | None:
    """The idempotency key of a request. INVALID_QUERY, INVALID_REQUEST."""
    key = idempotency.of_header(request.scope)
    if key is None or body.idempotency_key in {None, key}:
        return key or body.idempotency_key
    message = f"the header {idempotency.HEADER} has another key; give one of them"
    raise errors.ApiError(
        "INVALID_REQUEST",
        f"/idempotency_key: {message}",
        errors=(errors.FieldError("/idempotency_key", message),),
    )


async def _item(
    shared: services.Services, task: TaskHead, body: Execute, trace_id: str
) -> ExecuteItem:
    timeout_ms = timeout(body.timeout_ms, shared)
    await require_version(shared, task, body.version)
    return dispatch.item(
        checked_input(task, body.input, "/input"),
        version=body.version,
        timeout_ms=timeout_ms,
        force_validation=body.force_validation,
        trace_id=trace_id,
        routing_key=body.routing_key,
    )


def checked_input(task: TaskHead, value: msgspec.Raw, path: str) -> EncodedJson:
    """*value*, which stands at *path* of the body, if it is one for *task*.

    BODY_TOO_LARGE, INVALID_INPUT.
    """
    encoded = bytes(value)
    if len(encoded) > INPUT_BYTES_MAX:
        raise bodies.too_large(path, INPUT_BYTES_MAX)
    try:
        schemas.compiled(bytes(task.input_schema)).check(encoded, path)
    except schemas.Invalid as error:
        raise errors.ApiError("INVALID_INPUT", str(error), errors=error.errors) from error
    return encoded


def timeout(asked_ms: int | None, shared: services.Known) -> int:
    """The caller's timeout within the limits, or the default. INVALID_REQUEST."""
    most = shared.settings.timeout_ms_max
    if asked_ms is None:
        return shared.settings.timeout_ms
    if not 1 <= asked_ms <= most:
        message = f"expected 1 to {most} milliseconds"
        raise errors.ApiError(
            "INVALID_REQUEST",
            f"/timeout_ms: {message}",
            errors=(errors.FieldError("/timeout_ms", message),),
        )
    return asked_ms


async def require_version(shared: services.Known, task: TaskHead, version: int | None) -> None:
    """Refuse early what no executor could run. ARTIFACT_NOT_FOUND, NO_ACTIVE_VERSION."""
    if version is None:
        await shared.catalog.require_rollout(task.id)
    else:
        await shared.catalog.artifact(task.id, version)


def _wait_s(request: Request) -> float | None:
    """How long the caller wants to wait before a 202; None: until the deadline, for the result.

    `?wait=` in seconds, or RFC 7240's `Prefer: respond-async`, `Prefer: wait=5` or both.
    """
    asked = bodies.seconds(request.query_params.get("wait"), "wait", WAIT_MAX_S)
    if asked is not None:
        return asked
    prefer = request.headers.get("prefer", "").lower()
    wait = _PREFER_WAIT.search(prefer)
    if wait is not None:
        return min(float(wait[1]), WAIT_MAX_S)
    return 0.0 if "respond-async" in prefer else None


def _accepted(
    task_id: str, execution_id: str, more: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """The 202 of an execution that is on the bus, with *more* headers."""
    view = views.QueuedView(id=execution_id, execution_id=execution_id, task_id=task_id)
    headers = {
        "Location": f"/api/v1/executions/{execution_id}",
        "Preference-Applied": "respond-async",
        **more,
    }
    return bodies.json(view, 202, headers)


routes = [
    Route("/tasks/execute", execute_named, methods=["POST"]),
    Route("/tasks/{task}/execute", execute, methods=["POST"]),
]
