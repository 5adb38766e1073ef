"""`/api/v1/tasks/{task}/rollout`: which version answers, for how many, and the way back."""

from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai.catalog import rollouts
from loopai.ingress import bodies, identity, preconditions, services
from streams.messages import Rollout

_change = msgspec.json.Decoder(rollouts.Change)


async def get(request: Request) -> Response:
    catalog = services.of(request).catalog
    return answer(*await catalog.rollout(await _task_id(request)))


async def put(request: Request) -> Response:
    """What is absent stays, null removes."""
    shared = services.of(request)
    body = bodies.decode(await bodies.read(request, shared.settings.body_bytes_max), _change)
    changed = await shared.catalog.change_rollout(
        await _task_id(request),
        body,
        by=identity.of(request).name,
        now=datetime.now(UTC),
        revision=preconditions.if_match(request),
    )
    return answer(*changed)


async def promote(request: Request) -> Response:
    changed = await services.of(request).catalog.promote(
        await _task_id(request),
        by=identity.of(request).name,
        now=datetime.now(UTC),
        revision=preconditions.if_match(request),
    )
    return answer(*changed)


async def rollback(request: Request) -> Response:
    changed = await services.of(request).catalog.rollback(
        await _task_id(request),
        by=identity.of(request).name,
        now=datetime.now(UTC),
        revision=preconditions.if_match(request),
    )
    return answer(*changed)


def answer(rollout: Rollout, revision: int) -> Response:
    return bodies.json(rollout, headers=preconditions.etag(revision))


async def _task_id(request: Request) -> str:
    catalog = services.of(request).catalog
    return (await catalog.task(identity.of(request).tenant, request.path_params["task"])).id


routes = [
    Route("/tasks/{task}/rollout", get, methods=["GET"]),
    Route("/tasks/{task}/rollout", put, methods=["PUT"]),
    Route("/tasks/{task}/rollout/promote", promote, methods=["POST"]),
    Route("/tasks/{task}/rollout/rollback", rollback, methods=["POST"]),
]
