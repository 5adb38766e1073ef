"""`/health`, `/health/live`, `/health/ready` and `/metrics`."""

import asyncio
import importlib.metadata
import time
from collections import Counter
from datetime import UTC, datetime

import nats.errors
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai.ingress import bodies, services
from streams import presence, topology

VERSION = importlib.metadata.version("loopai")
BROKER_TIMEOUT_S = 2.0
SHOWN = ("ingress", *presence.NEEDED, "gateway", "syncer")


async def health(request: Request) -> Response:
    """What works: `healthy`, or `degraded` with the part that does not. Always 200."""
    shared = services.of(request)
    broker = await _broker(shared)
    now = time.monotonic()
    alive = Counter(
        entry.value.pool
        for key, entry in list(shared.workers.entries.items())
        if now - shared.workers.heard_at[key] < topology.WORKERS.ttl_s
    )
    healthy = broker == "ok" and all(alive[pool] for pool in presence.NEEDED)
    return bodies.json(
        {
            "status": "healthy" if healthy else "degraded",
            "version": VERSION,
            "timestamp": datetime.now(UTC),
            "checks": {"broker": broker},
            "workers": {pool: alive[pool] for pool in SHOWN},
        }
    )


async def live(_: Request) -> Response:
    """200 while this process answers at all."""
    return bodies.json({"status": "alive", "version": VERSION})


async def ready(request: Request) -> Response:
    """200 when requests can be accepted: the broker stores what is published."""
    broker = await _broker(services.of(request))
    return bodies.json(
        {"status": "ready" if broker == "ok" else "not ready", "checks": {"broker": broker}},
        200 if broker == "ok" else 503,
    )


async def metrics(request: Request) -> Response:
    text = generate_latest(services.of(request).metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _broker(shared: services.Services) -> str:
    """`ok`, or what is wrong. Asks JetStream: being connected proves nothing."""
    try:
        async with asyncio.timeout(BROKER_TIMEOUT_S):
            await shared.connection.jetstream.stream_info(topology.EXECUTE.name)
    except (nats.errors.Error, TimeoutError) as error:
        return str(error) or "does not answer"
    return "ok"


routes = [
    Route("/health", health, methods=["GET"]),
    Route("/health/live", live, methods=["GET"]),
    Route("/health/ready", ready, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]
