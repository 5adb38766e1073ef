"""Pages of other origins: which may call the API from a browser, and what they may read of it."""

from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from loopai.ingress.describe import document
from loopai.ingress.describe.parameters import EVERYWHERE

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ASKED_AGAIN_S: Final = 600
"""How long a browser may remember what a page may do: as long as a new setting takes to be felt."""
_CREDENTIALS: Final = ("Authorization", "X-Api-Key")


def middleware(origins: tuple[str, ...]) -> Middleware:
    """Tells browsers that pages of *origins* may call, and answers what they ask before.

    It has to be the outermost: a page may read why it was refused, and a browser asks without a
    credential. Cookies are none of ours, so they stay forbidden.
    """
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=(*_CREDENTIALS, "Content-Type", *_taken()),
        expose_headers=tuple(document.HEADERS),
        max_age=ASKED_AGAIN_S,
    )


def _taken() -> list[str]:
    """The headers that some operation takes, as the description says."""
    described = (
        *EVERYWHERE,
        *(each for of in document.OPERATIONS for each in document.parameters(of)),
    )
    return sorted({each.name for each in described if each.where == "header"})
