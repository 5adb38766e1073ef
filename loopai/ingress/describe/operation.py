"""What there is to say of one route: the words of the tables beside this module."""

from typing import Any, Final, Literal

import msgspec

from loopai.ingress import events

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
EVENTS: Final = events.MEDIA_TYPE
TEXT: Final = "text/plain"
HTML: Final = "text/html"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    where: Literal["path", "query", "header"]
    summary: str
    schema: dict[str, Any]  # any: JSON Schema is
    example: Any = None  # any: of that schema


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body that is read, as *type* in each of *media*."""

    type: Any  # any: whatever msgspec makes a schema of
    example: Any  # any: of that type
    media: tuple[str, ...] = (JSON,)
    required: bool = True
    """False: an empty body means the defaults."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    summary: str
    type: Any = None
    """None: no body. Several in a tuple: one of them."""
    example: Any = None  # any: of that type
    media: tuple[str, ...] = (JSON,)
    as_events: dict[str, str] | None = None
    """One of its Server-Sent Events, where `Accept` may ask for them."""
    headers: tuple[str, ...] = ()
    """Names in `document.HEADERS`."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. Codes that can come anywhere are added by `document`."""

    method: str
    path: str
    id: str
    """A name for clients that are generated from the document."""
    tag: str
    summary: str
    text: str = ""
    """More, in Markdown."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...]
    errors: tuple[str, ...] = ()
    """Codes of `loopai.errors` that belong to this route."""

    @property
    def is_api(self) -> bool:
        """Whether it is a part of the versioned API, not of what stands beside it."""
        return self.path.startswith("/api/")

    @property
    def gives(self) -> frozenset[str]:
        """Media types that it answers with when all is well; empty where there is no body."""
        return frozenset(
            media
            for answer in self.answers
            for media in (
                *(answer.media if answer.type else ()),
                *((EVENTS,) if answer.as_events else ()),
            )
        )

    @property
    def is_keyed(self) -> bool:
        """Whether `Idempotency-Key` is heeded."""
        return self.is_api and self.method == "POST"


def text(*, pattern: str = "", **more: Any) -> dict[str, Any]:  # any: JSON Schema is
    """The schema of a string."""
    return {"type": "string", **({"pattern": pattern} if pattern else {}), **more}
