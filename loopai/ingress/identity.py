"""Who asks: the tenant that a request belongs to, and the name that the audit shows."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.types import Scope

SCOPE_KEY: Final = "loopai.identity"
"""Where an ASGI scope has the identity of its request."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str
    """Everything that the request makes or sees is this tenant's."""
    name: str
    """What `created_by` and the history of a rollout say."""
    key_id: str = ""
    """Whose limits it counts for; empty: those of all of the tenant who have no key."""
    rate: str = ""
    """Requests, such as `100/second`; empty: as the settings say."""
    quota: str = ""
    """Executions, such as `10000/day`; the same."""


ANYBODY: Final = Identity(tenant="default", name="api")
"""Where nobody is asked who they are."""


def of(request: Request) -> Identity:
    return of_scope(request.scope)


def of_scope(scope: Scope) -> Identity:
    found: Identity = scope.get(SCOPE_KEY, ANYBODY)
    return found
