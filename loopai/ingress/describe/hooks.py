"""What there is to say of keys, webhooks and events."""

from typing import Any, Final

from loopai.ingress import keys, webhooks
from loopai.ingress.describe import shapes
from loopai.ingress.describe.follow import NOTHING_MORE, OF_EXECUTION, OF_OPERATION
from loopai.ingress.describe.operation import Answer, Body, Operation, Parameter, text
from loopai.ingress.describe.parameters import (
    EXECUTION,
    EXECUTION_ID,
    IF_MATCH,
    LAST_EVENT_ID,
    OPERATION,
    TIME,
)

_ID: Final = EXECUTION_ID
_KEY: Final[dict[str, Any]] = {
    "id": _ID,
    "tenant": "default",
    "name": "ci",
    "scopes": ["execute"],
    "last4": "x7Qa",
    "created_at": TIME,
    "created_by": "api",
    "expires_at": None,
    "rate": "",
    "quota": "",
    "revoked_at": None,
    "revoked_by": "",
}
_HOOK: Final[dict[str, Any]] = {
    "id": _ID,
    "url": "https://example.org/loopai",
    "events": ["artifact.activated"],
    "task": None,
    "description": "",
    "enabled": True,
    "disabled_reason": "",
    "former_secret_until": None,
    "created_at": TIME,
    "created_by": "api",
    "updated_at": TIME,
}
_DELIVERY: Final = {
    "id": _ID,
    "type": "ping",
    "status": "succeeded",
    "created_at": TIME,
    "next_attempt_at": None,
    "attempts": [
        {
            "number": 1,
            "at": TIME,
            "status_code": 204,
            "error": "",
            "response": "",
            "duration_ms": 12.5,
        }
    ],
}


def _id(name: str, of: str) -> Parameter:
    summary = f"Id of {of}."
    return Parameter(
        name=name, where="path", summary=summary, schema=text(format="uuid"), example=_ID
    )


_HOOK_ID: Final = _id("webhook", "a webhook")
_TENANT: Final = Parameter(
    name="tenant", where="query", summary="Whose keys; one's own without it.", schema=text()
)


def _gives(status: int, summary: str, kind: Any, example: Any, *headers: str) -> Answer:
    return Answer(status=status, summary=summary, type=kind, example=example, headers=headers)


KEYS: Final = (
    Operation(
        method="POST",
        path="/api/v1/keys",
        id="createKey",
        tag="keys",
        summary="Make an API key",
        text="Its text is in this answer and nowhere else.",
        body=Body(type=keys.CreateKey, example={"name": "ci", "scopes": ["execute"]}),
        answers=(
            _gives(201, "The key.", keys.NewKeyView, {**_KEY, "key": "loopai_…"}, "Cache-Control"),
        ),
        errors=("TOO_MANY_KEYS", "CONFLICT"),
    ),
    Operation(
        method="GET",
        path="/api/v1/keys",
        id="listKeys",
        tag="keys",
        summary="List API keys",
        parameters=(_TENANT,),
        answers=(_gives(200, "Those that have ended as well.", shapes.Keys, {"keys": [_KEY]}),),
    ),
    Operation(
        method="DELETE",
        path="/api/v1/keys/{key}",
        id="revokeKey",
        tag="keys",
        summary="Revoke an API key",
        parameters=(_id("key", "an API key"),),
        answers=(_gives(200, "The key, which is good for nothing now.", keys.KeyView, _KEY),),
        errors=("KEY_NOT_FOUND", "CONFLICT"),
    ),
)
_HOOKS: Final = "/api/v1/webhooks"
_ONE: Final = f"{_HOOKS}/{{webhook}}"
_SENT: Final = _gives(
    202, "It will be posted; the history says what came of it.", shapes.Sent,
    {"id": _ID, "type": "ping"}, "Location",
)  # fmt: skip
WEBHOOKS: Final = (
    Operation(
        method="POST",
        path=_HOOKS,
        id="createWebhook",
        tag="webhooks",
        summary="Have events posted to a URL",
        text="Without a `secret` one is made; it is in this answer and nowhere else.",
        body=Body(
            type=webhooks.CreateWebhook,
            example={"url": "https://example.org/loopai", "events": ["artifact.activated"]},
        ),
        answers=(_gives(201, "The webhook.", webhooks.WebhookView, _HOOK, "ETag", "Location"),),
        errors=("TASK_NOT_FOUND", "TOO_MANY_WEBHOOKS", "CONFLICT"),
    ),
    Operation(
        method="GET",
        path=_HOOKS,
        id="listWebhooks",
        tag="webhooks",
        summary="List webhooks",
        answers=(_gives(200, "All of them.", shapes.Webhooks, {"webhooks": [_HOOK]}),),
    ),
    Operation(
        method="GET",
        path=_ONE,
        id="getWebhook",
        tag="webhooks",
        summary="Read a webhook",
        parameters=(_HOOK_ID,),
        answers=(_gives(200, "The webhook.", webhooks.WebhookView, _HOOK, "ETag"),),
        errors=("WEBHOOK_NOT_FOUND",),
    ),
    Operation(
        method="PATCH",
        path=_ONE,
        id="changeWebhook",
        tag="webhooks",
        summary="Change a webhook",
        parameters=(_HOOK_ID, IF_MATCH),
        body=Body(type=webhooks.PatchWebhook, example={"enabled": True}),
        answers=(_gives(200, "The webhook as it is now.", webhooks.WebhookView, _HOOK, "ETag"),),
        errors=("WEBHOOK_NOT_FOUND", "TASK_NOT_FOUND", "PRECONDITION_FAILED", "CONFLICT"),
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        id="deleteWebhook",
        tag="webhooks",
        summary="Delete a webhook",
        parameters=(_HOOK_ID, IF_MATCH),
        answers=(Answer(status=204, summary="It is gone."),),
        errors=("WEBHOOK_NOT_FOUND", "PRECONDITION_FAILED", "CONFLICT"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/ping",
        id="pingWebhook",
        tag="webhooks",
        summary="Post a test event",
        parameters=(_HOOK_ID,),
        answers=(_SENT,),
        errors=("WEBHOOK_NOT_FOUND", "WEBHOOK_DISABLED", "BACKLOG_FULL"),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/deliveries",
        id="listDeliveries",
        tag="webhooks",
        summary="What was posted, and what came of it",
        parameters=(_HOOK_ID,),
        answers=(_gives(200, "The latest first.", shapes.Deliveries, {"deliveries": [_DELIVERY]}),),
        errors=("WEBHOOK_NOT_FOUND",),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/deliveries/{{delivery}}/redeliver",
        id="redeliver",
        tag="webhooks",
        summary="Post an event once more",
        parameters=(_HOOK_ID, _id("delivery", "a delivery")),
        answers=(_SENT,),
        errors=("WEBHOOK_NOT_FOUND", "DELIVERY_NOT_FOUND", "WEBHOOK_DISABLED", "BACKLOG_FULL"),
    ),
)


def _events(of: Parameter, id_: str, code: str, shown: dict[str, str]) -> Operation:
    return Operation(
        method="GET",
        path=f"/api/v1/{of.name}s/{{{of.name}}}/events",
        id=id_,
        tag="executions" if of is EXECUTION else "generation",
        summary=f"Follow an {of.name}",
        text="What has happened, and then what happens, until its end or for an hour.",
        parameters=(of, LAST_EVENT_ID),
        answers=(
            Answer(status=200, summary="Server-Sent Events, until the end.", as_events=shown),
            NOTHING_MORE,
        ),
        errors=(code, "OVERLOADED"),
    )


OF_EXECUTIONS: Final = (_events(EXECUTION, "followExecution", "EXECUTION_NOT_FOUND", OF_EXECUTION),)
OF_OPERATIONS: Final = (_events(OPERATION, "followOperation", "OPERATION_NOT_FOUND", OF_OPERATION),)
