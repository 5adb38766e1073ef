"""The Starlette application: routes, error handlers, and what they share while it runs."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopai import errors
from loopai.catalog import library, mirror
from loopai.ingress import (
    artifacts,
    batch,
    deliveries,
    dispatch,
    execute,
    executions,
    generate,
    health,
    hearing,
    problems,
    queues,
    rollouts,
    services,
    sync,
    tasks,
    webhooks,
)
from loopai.observe.metrics import IngressMetrics
from loopai.settings import Settings
from streams import codec, provision, store, topology
from streams.connection import Connection

API_VERSION = (b"x-api-version", b"1")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by name; callers may make up others."""


def build(made: services.Services) -> Starlette:
    """The application that serves with *made*, which its caller closes after it."""
    # `execute` comes before `tasks`: `/tasks/execute` must not be read as a task's name.
    resources = (
        *(execute, tasks, artifacts, rollouts, generate, executions, batch, queues, sync),
        webhooks,
        deliveries,
    )
    routes: list[Route] = [route for each in resources for route in each.routes]
    statuses = (400, 404, 405, 413)
    # A redirect for a surplus slash would lead wherever the Host header says.
    api = Router(routes, redirect_slashes=False)
    app = Starlette(
        routes=[Mount("/api/v1", api), *health.routes],
        middleware=[Middleware(Observe, made.metrics)],
        exception_handlers=dict.fromkeys(
            (errors.ApiError, ClientDisconnect, *problems.TRANSLATED, *statuses), problems.handle
        ),
    )
    app.router.redirect_slashes = False
    app.state.services = made
    return app


@contextlib.asynccontextmanager
async def shared(settings: Settings, connection: Connection) -> AsyncIterator[services.Services]:
    """Make what handlers share; close it in reverse. StartupError when the bus is not ready."""
    missing = await provision.missing(connection, topology.topology())
    if missing:
        raise errors.StartupError(
            f"the broker lacks {', '.join(missing)}; run `python -m streams apply` first"
        )
    async with contextlib.AsyncExitStack() as stack:
        metrics = IngressMetrics()
        workers = mirror.Mirror(connection, topology.WORKERS, codec.WORKER)
        stack.push_async_callback(workers.stop)
        await workers.start()
        known = await stack.enter_async_context(
            library.opened(settings, connection, metrics.registry, writes=True)
        )
        sites = mirror.Mirror(connection, topology.SITES, codec.SITE)
        stack.push_async_callback(sites.stop)
        await sites.start()
        held = queues.Queues(connection, workers, tenant_backlog_max=settings.tenant_backlog_max)
        stack.push_async_callback(held.close)
        dispatcher = dispatch.Dispatcher(
            connection,
            f"ingress-{secrets.token_hex(8)}",
            metrics,
            held,
            waiting_max=settings.waiting_max,
        )
        await dispatcher.start()
        stack.push_async_callback(dispatcher.close)
        yield services.Services(
            settings=settings,
            connection=connection,
            catalog=known,
            dispatcher=dispatcher,
            operations=store.Bucket(connection, topology.OPERATIONS, codec.OPERATION),
            cancellations=store.Bucket(connection, topology.CANCELLATIONS, codec.CANCELLATION),
            workers=workers,
            sites=sites,
            queues=held,
            hearing=hearing.Hearing(connection, waiting_max=settings.waiting_max),
            metrics=metrics,
        )


class Observe:
    """Counts and times every request by its route; tells the API's version.

    What no handler foresaw becomes a problem here: Starlette's own last handler would answer
    without the headers and log everything a second time.
    """

    def __init__(self, app: ASGIApp, metrics: IngressMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append(API_VERSION)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            if status:
                raise
            answer = await problems.handle(Request(scope), error)
            await answer(scope, receive, observed)
        finally:
            route = _name(scope.get("route"))
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.answered(route, method, status, time.perf_counter() - started)


def _name(route: object) -> str:
    """`module.function` of what a path leads to; `none` where it leads nowhere."""
    if not isinstance(route, Route):
        return "none"
    return f"{route.endpoint.__module__.rpartition('.')[2]}.{route.endpoint.__name__}"
