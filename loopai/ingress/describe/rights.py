"""Who may ask for what, as the description says it."""

import functools

from loopai.ingress import access, resources
from loopai.ingress.describe.operation import Operation
from streams import messages


def scopes(of: Operation) -> tuple[messages.Scope, ...]:
    """What *of* takes one of, beside `admin`; nothing where everybody may ask."""
    route = _routes().get((of.method, of.path))
    return access.NEEDS.get(route, access.UNLISTED) if route is not None else ()


def permission(of: Operation) -> str:
    """Who may ask, in words."""
    named = [f"`{each}`" for each in scopes(of) if each != "admin"]
    if named:
        return f"Takes the scope {' or '.join(named)}; `admin` may do everything."
    return "Takes the scope `admin`." if scopes(of) else "Takes no credential."


@functools.cache
def _routes() -> dict[tuple[str, str], str]:
    """The names of routes that are not for everybody, by method and path."""
    served = (
        *((resources.PREFIX, route) for route in resources.API),
        *(("", route) for route in resources.OUTSIDE),
    )
    return {
        (method, prefix + route.path): name
        for prefix, route in served
        if (name := access.name(route)) not in access.PUBLIC
        for method in route.methods or ()
    }
