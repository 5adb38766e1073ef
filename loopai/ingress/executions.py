"""`/api/v1/executions/{id}`: where an execution is, from the streams themselves; and its end.

By the conservation law an accepted execution is in RECORDS, in EXECUTE or in DEAD. The time in its
id says where in each stream to begin, so nothing but the streams is needed to find it.
"""

import contextlib
import math
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors, views
from loopai.ingress import access, bodies, events, identity, leaving, services
from streams import ids, replay
from streams.connection import Connection
from streams.messages import Cancellation

WAIT_MAX_S = 300.0
LOOK_S = 5.0
"""How often who waits looks without having heard anything."""
QUEUED, ENDED = "queued", "ended"

Found: TypeAlias = views.ExecutionView | views.QueuedView | views.DeadView


async def get(request: Request) -> Response:
    if events.wanted(request):
        return await follow(request)
    ends = _ends(request)
    execution_id = request.path_params["execution"]
    shared, tenant = services.of(request), identity.of(request).tenant
    found = await _require(shared.connection, tenant, execution_id)
    found = await _until(request, ends, found)
    access.require_held(request)
    return bodies.json(found)


async def follow(request: Request) -> Response:
    """Events: `queued` where it is, then `ended`; 204 to who has had that."""
    shared, tenant = services.of(request), identity.of(request).tenant
    execution_id, last = request.path_params["execution"], events.last_id(request)
    found = await _require(shared.connection, tenant, execution_id)
    if last == ENDED and not isinstance(found, views.QueuedView):
        return events.nothing_more()
    return events.EventStream(events.patient(_told(request, found, last)))


async def _told(request: Request, found: Found, last: str | None) -> events.Events:
    shared, tenant = services.of(request), identity.of(request).tenant
    now = found
    if isinstance(now, views.QueuedView):
        if last != QUEUED:
            yield events.event(QUEUED, now, QUEUED)
        looking = _look(shared, tenant, now, events.KEEP_ALIVE_S)
        async with contextlib.aclosing(looking):
            async for now in looking:
                access.require_held(request)
                if isinstance(now, views.QueuedView):
                    yield events.KEEP_ALIVE
    if not isinstance(now, views.QueuedView):
        yield events.event(ENDED, now, ENDED)


async def cancel(request: Request) -> Response:
    """Ask for the end of an execution that has not ended: 202, or 200 where it was waited for."""
    ends = _ends(request)
    execution_id = request.path_params["execution"]
    shared, tenant = services.of(request), identity.of(request).tenant
    found = await _require(shared.connection, tenant, execution_id)
    if not isinstance(found, views.QueuedView):
        raise errors.ApiError(
            "EXECUTION_ENDED",
            f"the execution has ended already, with the status {found.status}",
            execution_id=execution_id,
            execution_status=found.status,
        )
    asked = Cancellation(tenant=tenant, requested_at=datetime.now(UTC))
    await shared.cancellations.put(execution_id, asked)
    found = await _until(request, ends, found)
    if not isinstance(found, views.QueuedView):
        return bodies.json(found)
    view = views.CancellingView(id=execution_id, execution_id=execution_id)
    return bodies.json(view, 202, {"Location": f"/api/v1/executions/{execution_id}"})


def _ends(request: Request) -> float:
    """Until when the caller waits, by `time.monotonic`."""
    wait_s = bodies.seconds(request.query_params.get("wait"), "wait", WAIT_MAX_S)
    return time.monotonic() + (wait_s or 0.0)


async def _until(request: Request, ends: float, found: Found) -> Found:
    """*found* as it is once it has ended, or at *ends*. EXECUTION_NOT_FOUND, OVERLOADED."""
    if isinstance(found, views.QueuedView) and time.monotonic() < ends:
        return await leaving.unless_left(request, _last(request, found, ends))
    return found


async def _last(request: Request, found: Found, ends: float) -> Found:
    shared, tenant = services.of(request), identity.of(request).tenant
    looking = _look(shared, tenant, found, LOOK_S, ends)
    async with contextlib.aclosing(looking):
        async for each in looking:
            found = each
    return found


async def _look(
    shared: services.Services,
    tenant: str,
    found: Found,
    every_s: float,
    ends: float = math.inf,
) -> AsyncGenerator[Found, None]:
    """*found* again and again, at least *every_s*, until it has ended or at *ends*."""
    async with shared.hearing.execution(tenant, found.id) as bell:
        quiet_since = time.monotonic()
        while True:
            found = await _require(shared.connection, tenant, found.id)
            now = time.monotonic()
            over = now >= ends or shared.hearing.closed
            ended = over or not isinstance(found, views.QueuedView)
            if ended or now - quiet_since >= every_s:
                yield found
                quiet_since = now
            if ended:
                return
            await bell.wait(min(every_s, ends - now))


async def _require(connection: Connection, tenant: str, execution_id: str) -> Found:
    found = await _find(connection, tenant, execution_id) if ids.is_id(execution_id) else None
    if found is None:
        raise errors.ApiError("EXECUTION_NOT_FOUND", f"no execution {execution_id[:64]!r}")
    return found


async def _find(connection: Connection, tenant: str, execution_id: str) -> Found | None:
    # It may be recorded between the looks at the two streams: look at the first one again.
    for again in (True, False):
        recorded = await replay.recorded(
            connection, tenant=tenant, task=None, wanted={execution_id}
        )
        if recorded:
            return views.past(recorded[execution_id])
        if again and await replay.is_queued(connection, tenant=tenant, execution_id=execution_id):
            return views.QueuedView(id=execution_id, execution_id=execution_id)
    letter = await replay.dead(connection, tenant=tenant, execution_id=execution_id)
    return None if letter is None else views.dead(execution_id, letter)


routes = [
    Route("/executions/{execution}", get, methods=["GET"]),
    Route("/executions/{execution}/events", follow, methods=["GET"]),
    Route("/executions/{execution}", cancel, methods=["DELETE"]),
]
