"""Which scope each route takes, in one table, and what keeps everybody else out."""

import copy
from collections.abc import Iterable
from typing import Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from loopai import errors
from loopai.ingress import authentication, identity, services
from streams.messages import Scope

NEEDS: Final[dict[str, tuple[Scope, ...]]] = {
    "execute.execute": ("execute",),
    "execute.execute_named": ("execute",),
    "batch.execute_batch": ("execute",),
    # Whoever may start one may follow it, and end it.
    "executions.get": ("execute", "operate", "observe"),
    "executions.follow": ("execute", "operate", "observe"),
    "executions.cancel": ("execute", "operate"),
    "tasks.create": ("author",),
    "tasks.list_all": ("author", "operate", "observe"),
    "tasks.get": ("author", "operate", "observe"),
    "tasks.patch": ("author",),
    "tasks.delete": ("author",),
    # With `activate` these two take `operate` as well.
    "artifacts.upload": ("author",),
    "generate.generate": ("author",),
    "generate.get": ("author", "operate", "observe"),
    "generate.follow": ("author", "operate", "observe"),
    "artifacts.list_all": ("author", "operate", "observe"),
    "artifacts.get": ("author", "operate", "observe"),
    "artifacts.program": ("author", "operate", "observe"),
    "artifacts.activate": ("operate",),
    "rollouts.get": ("author", "operate", "observe"),
    "rollouts.put": ("operate",),
    "rollouts.promote": ("operate",),
    "rollouts.rollback": ("operate",),
    # They show what all executions of the tenant gave, to whatever URL they are told.
    "webhooks.create": ("operate",),
    "webhooks.list_all": ("operate", "observe"),
    "webhooks.get": ("operate", "observe"),
    "webhooks.patch": ("operate",),
    "webhooks.delete": ("operate",),
    "deliveries.ping": ("operate",),
    "deliveries.list_all": ("operate", "observe"),
    "deliveries.redeliver": ("operate",),
    "queues.queues": ("operate", "observe"),
    "sync.get": ("operate", "observe"),
    "health.metrics": ("observe",),
    "keys.create": ("admin",),
    "keys.list_all": ("admin",),
    "keys.revoke": ("admin",),
}
"""By `module.function`: one of these is enough, and `admin` always is."""
PUBLIC: Final = frozenset(
    {
        *("health.health", "health.live", "health.ready"),
        *("pages.openapi", "pages.asyncapi", "pages.swagger", "pages.file"),
    }
)
"""Probes have no credentials, and what describes the API tells nobody anything of a tenant."""
UNLISTED: Final[tuple[Scope, ...]] = ("admin",)
"""A route that was forgotten here is not open."""


def name(route: Route) -> str:
    """`module.function` of what *route* leads to; metrics call it the same."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}.{route.endpoint.__name__}"


def guarded(route: Route) -> Route:
    """*route* for those only who have its scope."""
    if name(route) in PUBLIC:
        return route
    # A copy: the module's own route serves applications that ask nobody as well.
    kept = copy.copy(route)
    kept.app = _Guard(route.app, NEEDS.get(name(route), UNLISTED))
    return kept


def require_held(request: Request) -> None:
    """UNAUTHENTICATED: the key of *request*, which was let in, has ended since.

    For whoever is told something much later than it asked.
    """
    callers = services.of(request).callers
    if callers is not None and not callers.holds(request.headers.raw):
        raise errors.ApiError("UNAUTHENTICATED", "the key has ended while the request waited")


class _Guard:
    """ASGI: raises FORBIDDEN for a caller without the scope."""

    def __init__(self, app: ASGIApp, needs: tuple[Scope, ...]) -> None:
        self._app = app
        self._needs = needs

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        identity.require(identity.of_scope(scope), self._needs, "this")
        await self._app(scope, receive, send)


class Asked:
    """ASGI: says in the scope who asks, or raises UNAUTHENTICATED.

    Before the routing: what comes behind it, such as a limit, knows whose request it is.
    """

    def __init__(
        self, app: ASGIApp, callers: authentication.Authenticator, routes: Iterable[Route]
    ) -> None:
        self._app = app
        self._callers = callers
        self._public = [route.path_regex for route in routes if name(route) in PUBLIC]

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(path.match(scope["path"]) for path in self._public):
            await self._app(scope, receive, send)
            return
        scope[identity.SCOPE_KEY] = await self._callers.identify(scope["headers"])
        await self._app(scope, receive, _private(send))


def _private(send: Send) -> Send:
    """What a caller is answered is for no cache between: none knows `X-Api-Key` (RFC 9111)."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"private"))
        await send(message)

    return marked
