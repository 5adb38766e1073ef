"""Who asks: the tenant that a request belongs to, the name that the audit shows, and its scopes."""

from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.types import Scope as AsgiScope

from loopai import errors
from loopai.catalog import keys
from streams.messages import Scope

SCOPE_KEY: Final = "loopai.identity"
"""Where an ASGI scope has the identity of its request."""
_ALSO_KEY: Final = "loopai.also"
"""Where it has the scopes that its body took, beside its route's."""

Identity: TypeAlias = keys.Grant
"""Everything that a request makes or sees is its tenant's; `created_by` and the history of a
rollout say its name."""

ANYBODY: Final = Identity(tenant=keys.HOME, name="api", scopes=keys.SCOPES)
"""Where nobody is asked who they are."""


def of(request: Request) -> Identity:
    return of_scope(request.scope)


def of_scope(scope: AsgiScope) -> Identity:
    found: Identity = scope.get(SCOPE_KEY, ANYBODY)
    return found


def require(caller: Identity, scopes: tuple[Scope, ...], what: str) -> None:
    """FORBIDDEN, which names *scopes*, unless *caller* has one of them. *what* takes it."""
    if caller.scopes.isdisjoint(scopes):
        raise errors.ApiError(
            "FORBIDDEN", f"{what} takes the scope {' or '.join(scopes)}", scope=" ".join(scopes)
        )


def require_also(request: Request, scopes: tuple[Scope, ...], what: str) -> None:
    """FORBIDDEN, as `require`. *what* stands in the body: `also` tells of it afterwards."""
    require(of(request), scopes, what)
    request.scope[_ALSO_KEY] = scopes


def also(scope: AsgiScope) -> tuple[Scope, ...]:
    """What the request of *scope* took one of by `require_also`; empty: nothing."""
    found: tuple[Scope, ...] = scope.get(_ALSO_KEY, ())
    return found
