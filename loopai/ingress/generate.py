"""`/api/v1/tasks/{task}/generate` and `/api/v1/operations/{id}`: long work, looked up by id."""

import time
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.ingress import access, bodies, events, identity, leaving, problems, services
from streams import codec, ids, publisher, store, subjects
from streams.messages import GenerateRequest, Operation

OK, ACCEPTED = 200, 202
WAIT_MAX_S = 300.0
LOOK_S = 5.0
"""How often who waits looks without having heard anything."""
ENDED = ("succeeded", "failed")


class Generate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    engine: Literal["examples"] = "examples"
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    activate: bool = True


_decoder = msgspec.json.Decoder(Generate)


async def generate(request: Request) -> Response:
    shared = services.of(request)
    wait_s = bodies.seconds(request.query_params.get("wait"), "wait", WAIT_MAX_S)
    raw = await bodies.read(request, shared.settings.body_bytes_max)
    body = bodies.decode(raw or b"{}", _decoder)
    if body.activate:
        identity.require_also(
            request, ("operate",), '`"activate": true`, which false here leaves out,'
        )
    task = await shared.catalog.task(identity.of(request).tenant, request.path_params["task"])
    now = datetime.now(UTC)
    operation = Operation(
        id=ids.new(),
        tenant=task.tenant,
        task=task.name,
        task_id=task.id,
        created_at=now,
        updated_at=now,
    )
    order = GenerateRequest(
        operation_id=operation.id,
        task_id=task.id,
        engine=body.engine,
        seed=body.seed,
        activate=body.activate,
        requested_at=now,
        trace_id=problems.trace_id(request),
    )
    await shared.operations.create(operation.id, operation)
    try:
        await publisher.publish(
            shared.connection,
            subjects.generate(task.tenant, task.name),
            codec.GENERATE.encode(order),
            message_id=operation.id,
        )
    except publisher.BacklogFull:
        # Nobody will ever work on it: it must not read as queued for a week.
        await shared.operations.delete(operation.id)
        raise
    return await _answer(request, operation, wait_s or 0.0, accepted=ACCEPTED)


async def get(request: Request) -> Response:
    if events.wanted(request):
        return await follow(request)
    wait_s = bodies.seconds(request.query_params.get("wait"), "wait", WAIT_MAX_S)
    entry = await _require(request)
    answer = await _answer(request, entry.value, wait_s or 0.0, accepted=OK)
    access.require_held(request)
    return answer


async def follow(request: Request) -> Response:
    """Events: `progress` at each change, then `ended`; 204 to who has had that."""
    entry = await _require(request)
    last = events.last_id(request)
    if last == str(entry.revision) and entry.value.status in ENDED:
        return events.nothing_more()
    return events.EventStream(events.patient(_told(request, entry, last)))


async def _told(request: Request, entry: store.Entry[Operation], last: str | None) -> events.Events:
    """Its state now, and each one that follows; ids are revisions."""
    shared, name, told = services.of(request), entry.value.id, last
    async with shared.hearing.operation(name) as bell:
        quiet_since = time.monotonic()
        while True:
            # After the subscription: what changed before it is seen here.
            entry = await shared.operations.get(name) or entry
            access.require_held(request)
            ended = entry.value.status in ENDED
            now = time.monotonic()
            if str(entry.revision) != told:
                told = str(entry.revision)
                yield events.event("ended" if ended else "progress", entry.value, told)
                quiet_since = now
            elif now - quiet_since >= events.KEEP_ALIVE_S:
                yield events.KEEP_ALIVE
                quiet_since = now
            if ended or shared.hearing.closed:
                return
            await bell.wait(events.KEEP_ALIVE_S)


async def _require(request: Request) -> store.Entry[Operation]:
    """The operation that the path names. OPERATION_NOT_FOUND."""
    name = request.path_params["operation"]
    entry = await services.of(request).operations.get(name) if ids.is_id(name) else None
    if entry is None or entry.value.tenant != identity.of(request).tenant:
        raise errors.ApiError("OPERATION_NOT_FOUND", f"no operation {name[:64]!r}")
    return entry


async def _answer(
    request: Request, operation: Operation, wait_s: float, *, accepted: int
) -> Response:
    """The operation as it is after at most *wait_s*; 200 once it has ended."""
    if wait_s and operation.status not in ENDED:
        try:
            operation = await leaving.unless_left(request, _until(request, operation, wait_s))
        except errors.ApiError:
            if accepted == OK:
                raise
            # As many wait here as may; what was ordered is told all the same.
    status = OK if operation.status in ENDED else accepted
    return bodies.json(operation, status, {"Location": f"/api/v1/operations/{operation.id}"})


async def _until(request: Request, operation: Operation, wait_s: float) -> Operation:
    """*operation* as it is once it has ended, or after *wait_s*. OVERLOADED."""
    shared, ends = services.of(request), time.monotonic() + wait_s
    async with shared.hearing.operation(operation.id) as bell:
        while True:
            entry = await shared.operations.get(operation.id)
            operation = operation if entry is None else entry.value
            left_s = ends - time.monotonic()
            if operation.status in ENDED or left_s <= 0 or shared.hearing.closed:
                return operation
            await bell.wait(min(LOOK_S, left_s))


routes = [
    Route("/tasks/{task}/generate", generate, methods=["POST"]),
    Route("/operations/{operation}", get, methods=["GET"]),
    Route("/operations/{operation}/events", follow, methods=["GET"]),
]
