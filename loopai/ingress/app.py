"""The Starlette application: routes, error handlers, and what they share while it runs."""

import contextlib
import copy
import secrets
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopai import errors
from loopai.catalog import keys as keyring
from loopai.catalog import library, mirror
from loopai.ingress import (
    access,
    authentication,
    cors,
    dispatch,
    hearing,
    kept,
    negotiation,
    once,
    problems,
    queues,
    rates,
    resources,
    services,
    tokens,
)
from loopai.ingress.describe import pages
from loopai.observe.metrics import IngressMetrics
from loopai.settings import Settings
from streams import codec, provision, store, subjects, topology
from streams.connection import Connection

API_VERSION = (b"x-api-version", b"1")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by name; callers may make up others."""


def build(made: services.Services) -> Starlette:
    """The application that serves with *made*, which its caller closes after it."""
    routes = [negotiation.negotiated(resources.PREFIX, route) for route in resources.API]
    outside = [negotiation.negotiated("", route) for route in (*resources.OUTSIDE, *pages.routes)]
    # Behind the guards: what is kept is given again only to whoever might have asked for it.
    routes = [_within(route, lambda app: kept.Kept(app, made)) for route in routes]
    middleware = [Middleware(Observe, made.metrics)]
    if made.callers is not None:
        middleware.append(Middleware(access.Asked, made.callers, outside))
        routes = [access.guarded(route) for route in routes]
        outside = [access.guarded(route) for route in outside]
    # Who asks must be known before that is limited.
    middleware.append(Middleware(rates.Limited, made.limiter))
    if made.settings.origins:
        middleware.insert(0, cors.middleware(made.settings.origins))
    statuses = (400, 404, 405, 413)
    # A redirect for a surplus slash would lead wherever the Host header says.
    api = Router(routes, redirect_slashes=False)
    app = Starlette(
        routes=[Mount(resources.PREFIX, api), *outside],
        middleware=middleware,
        exception_handlers=dict.fromkeys(
            (errors.ApiError, ClientDisconnect, *problems.TRANSLATED, *statuses), problems.handle
        ),
    )
    app.router.redirect_slashes = False
    app.state.services = made
    return app


def _within(route: Route, outer: Callable[[ASGIApp], ASGIApp]) -> Route:
    """*route*, of which *outer* hears first. A copy: other applications have the module's own."""
    changed = copy.copy(route)
    changed.app = outer(route.app)
    return changed


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
            subjects.reply("ingress", secrets.token_hex(8)),
            metrics.dispatch,
            held,
            waiting_max=settings.waiting_max,
        )
        await dispatcher.start()
        stack.push_async_callback(dispatcher.close)
        ring = await stack.enter_async_context(keyring.Keyring(connection).opened())
        callers = None
        if settings.auth_required:
            issuer = tokens.Issuer(settings) if settings.jwt_issuer else None
            if issuer is not None:
                stack.push_async_callback(issuer.close)
            callers = authentication.Authenticator(ring, issuer)
        claims = store.Bucket(connection, topology.IDEMPOTENCY, codec.IDEMPOTENCY)
        attached = once.Once(connection, claims, dispatcher)
        stack.callback(attached.close)
        yield services.Services(
            settings=settings,
            keys=ring,
            callers=callers,
            connection=connection,
            catalog=known,
            dispatcher=dispatcher,
            operations=store.Bucket(connection, topology.OPERATIONS, codec.OPERATION),
            cancellations=store.Bucket(connection, topology.CANCELLATIONS, codec.CANCELLATION),
            claims=claims,
            once=attached,
            workers=workers,
            sites=sites,
            queues=held,
            limiter=rates.Limiter(settings, await stack.enter_async_context(_counts(settings))),
            hearing=hearing.Hearing(connection, waiting_max=settings.waiting_max),
            metrics=metrics,
        )


@contextlib.asynccontextmanager
async def _counts(settings: Settings) -> AsyncIterator[rates.Shared | None]:
    """Where ingresses count together, if they do."""
    if not settings.redis_url:
        yield None
        return
    from loopai.ingress import shared_rates  # noqa: PLC0415 (see there)

    counts = shared_rates.SharedRates(settings.redis_url, namespace=settings.cache_namespace)
    async with counts.opened() as shared:
        yield shared


class Observe:
    """Counts and times every request by its route; tells the API's version, and what is left.

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
                message["headers"] += [API_VERSION, *rates.headers(scope)]
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
    return access.name(route)
