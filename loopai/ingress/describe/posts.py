"""What is posted to webhooks, as OpenAPI 3.1 has it: bodies, and the headers that sign them."""

from collections.abc import Callable
from typing import Any, Final, get_args

from loopai import views
from loopai.ingress.describe.operation import text
from loopai.webhooks import happenings
from streams import messages

_EXECUTION: Final = (views.ExecutionView, happenings.LargeExecution)
DATA: Final[dict[str, tuple[str, tuple[Any, ...]]]] = {
    "execution.succeeded": ("An execution ended with an output", _EXECUTION),
    "execution.failed": ("An execution ended otherwise", (*_EXECUTION, views.DeadView)),
    "execution.cancelled": ("An execution was cancelled", _EXECUTION),
    "artifact.created": ("A version was uploaded or generated", (happenings.VersionMade,)),
    "artifact.activated": ("A version answers from now on", (happenings.VersionActive,)),
    "artifact.rolled_back": ("An earlier version answers again", (happenings.VersionActive,)),
    "operation.finished": ("A generation succeeded or failed", (messages.Operation,)),
    happenings.PING: ("Somebody tries the webhook", (happenings.Pinged,)),
}
"""By event: when it is posted, and what its `data` may be."""
HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "webhook-id": ("The same for every attempt: keep those that you have handled.", text()),
    "webhook-timestamp": ("Unix time of this attempt, in seconds.", text(pattern="^[0-9]+$")),
    "webhook-signature": (
        (
            "One or two signatures with a blank between: `v1,` and the HMAC-SHA256, in base64, of "
            "`id.timestamp.body` with the secret (Standard Webhooks)."
        ),
        text(pattern="^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$"),
    ),
}
_TEXT: Final = (
    "At least once: answer any 2xx within ten seconds, or it comes again. Check the signature over "
    "the bytes of the body as they came."
)
if set(DATA) != {*get_args(messages.WebhookEvent), happenings.PING}:
    raise TypeError("every event of webhooks has its line here")


def types() -> list[Any]:  # any: types
    """All types that `data` may have."""
    return [each for _, data in DATA.values() for each in data]


def webhooks(schema_of: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:  # any: OpenAPI
    """The `webhooks` of the document, by event."""
    return {name: {"post": _post(name, schema_of)} for name in DATA}


def _post(name: str, schema_of: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:  # any: OpenAPI
    summary, data = DATA[name]
    schema = {
        "type": "object",
        "properties": {
            "type": {"const": name},
            "timestamp": text(format="date-time"),
            "data": schema_of(data) if len(data) > 1 else schema_of(data[0]),
        },
        "required": ["type", "timestamp", "data"],
    }
    return {
        "operationId": "".join(map(str.title, name.replace("_", ".").split("."))) + "Posted",
        "tags": ["webhooks"],
        "summary": summary,
        "description": _TEXT,
        "security": [],
        "parameters": [
            {"name": header, "in": "header", "required": True, "description": told, "schema": form}
            for header, (told, form) in HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "2XX": {"description": "It was taken."},
            "default": {"description": "It was not: it comes again, later and later, for a day."},
        },
    }
