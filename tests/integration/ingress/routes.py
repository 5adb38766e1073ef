"""What an application serves, route by route."""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount


def every_route(application: Starlette) -> Iterator[tuple[BaseRoute, str]]:
    """Each route with its whole path."""
    for each in application.routes:
        if isinstance(each, Mount):
            for inner in each.routes:
                yield inner, each.path + inner.path
        else:
            yield each, each.path
