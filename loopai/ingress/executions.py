"""`GET /api/v1/executions/{id}`: where an execution is, from the streams themselves.

By the conservation law an accepted execution is in RECORDS, in EXECUTE or in DEAD. The time in its
id says where in each stream to begin, so nothing but the streams is needed to find it.
"""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors, views
from loopai.ingress import bodies, services
from streams import ids, replay
from streams.connection import Connection
from streams.messages import ExecutionError

WAIT_MAX_S = 300.0
POLL_S = 0.1


async def get(request: Request) -> Response:
    wait_s = bodies.seconds(request.query_params.get("wait"), "wait", WAIT_MAX_S) or 0.0
    execution_id = request.path_params["execution"]
    connection = services.of(request).connection
    ends = time.monotonic() + wait_s
    found = await _find(connection, execution_id) if ids.is_id(execution_id) else None
    while isinstance(found, views.QueuedView) and time.monotonic() < ends:
        await asyncio.sleep(POLL_S)
        found = await _find(connection, execution_id)
    if found is None:
        raise errors.ApiError("EXECUTION_NOT_FOUND", f"no execution {execution_id[:64]!r}")
    return bodies.json(found)


async def _find(
    connection: Connection, execution_id: str
) -> views.ExecutionView | views.QueuedView | dict[str, object] | None:
    # It may be recorded between the looks at the two streams: look at the first one again.
    for again in (True, False):
        recorded = await replay.recorded(
            connection, tenant=services.TENANT, task=None, wanted={execution_id}
        )
        if recorded:
            return views.past(recorded[execution_id])
        if again and await replay.is_queued(
            connection, tenant=services.TENANT, execution_id=execution_id
        ):
            return views.QueuedView(id=execution_id, execution_id=execution_id)
    letter = await replay.dead(connection, tenant=services.TENANT, execution_id=execution_id)
    if letter is None:
        return None
    return {
        "id": execution_id,
        "execution_id": execution_id,
        "status": "error",
        "error_message": letter.detail,
        "error": ExecutionError(type="dead_letter", message=f"{letter.reason}: {letter.detail}"),
        "executed_at": letter.dead_at,
    }


routes = [Route("/executions/{execution}", get, methods=["GET"])]
