"""`/api/v1/webhooks/{id}/deliveries` and `/ping`: what was posted to a webhook, and once more."""

from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.ingress import bodies, webhooks
from loopai.webhooks import happenings
from streams import ids
from streams.messages import Webhook, WebhookAttempt, WebhookDelivery

LIST_MAX: Final = 100
"""Deliveries in one answer; the history has 200 attempts."""


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    at: datetime
    status_code: int | None
    error: str
    response: str
    duration_ms: float


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One event for the webhook, and how often it was posted."""

    id: str
    type: str
    status: str
    """`succeeded`, `retrying` or `failed`."""
    created_at: datetime
    next_attempt_at: datetime | None
    attempts: list[AttemptView]
    """The oldest first."""


async def ping(request: Request) -> Response:
    """Post a test event; whether it arrives, the history says."""
    webhook = _require_enabled((await webhooks.entry(request)).value)
    made = happenings.ping(webhook, datetime.now(UTC))
    return await _send(request, webhook, made, message_id=made.id)


async def list_all(request: Request) -> Response:
    webhook = (await webhooks.entry(request)).value
    attempts = await webhooks.kept(request).attempts(webhook.tenant, webhook.id)
    return bodies.json({"deliveries": _deliveries(attempts)[:LIST_MAX]})


async def redeliver(request: Request) -> Response:
    """Post it again, with the same id and a schedule of its own."""
    webhook = _require_enabled((await webhooks.entry(request)).value)
    wanted = request.path_params["delivery"]
    attempts = await webhooks.kept(request).attempts(webhook.tenant, webhook.id)
    found = next((each.delivery for each in attempts if each.delivery.id == wanted), None)
    if found is None:
        raise errors.ApiError(
            "DELIVERY_NOT_FOUND", f"the history has no delivery {wanted[:64]!r} any more"
        )
    made = msgspec.structs.replace(found, attempt=1, due_at=None)
    return await _send(request, webhook, made, message_id=f"{made.id}:{ids.new()}")


async def _send(
    request: Request, webhook: Webhook, made: WebhookDelivery, *, message_id: str
) -> Response:
    await webhooks.kept(request).send(webhook.tenant, made, message_id=message_id)
    location = f"/api/v1/webhooks/{webhook.id}/deliveries"
    return bodies.json({"id": made.id, "type": made.type}, 202, {"Location": location})


def _require_enabled(webhook: Webhook) -> Webhook:
    if not webhook.enabled:
        why = f" ({webhook.disabled_reason})" if webhook.disabled_reason else ""
        raise errors.ApiError(
            "WEBHOOK_DISABLED", f'the webhook is disabled{why}; PATCH it with {{"enabled": true}}'
        )
    return webhook


def _deliveries(attempts: list[WebhookAttempt]) -> list[DeliveryView]:
    """*attempts* by what they were of; what was posted last comes first."""
    grouped: dict[str, list[WebhookAttempt]] = {}
    for each in attempts:
        grouped.setdefault(each.delivery.id, []).append(each)
    latest = sorted(grouped.values(), key=lambda group: group[-1].at, reverse=True)
    return [
        DeliveryView(
            id=group[-1].delivery.id,
            type=group[-1].delivery.type,
            status=group[-1].outcome,
            created_at=group[-1].delivery.created_at,
            next_attempt_at=group[-1].next_at,
            attempts=[
                AttemptView(
                    number=each.delivery.attempt,
                    at=each.at,
                    status_code=each.status_code,
                    error=each.error,
                    response=each.response,
                    duration_ms=each.duration_ms,
                )
                for each in group
            ],
        )
        for group in latest
    ]


_ONE: Final = "/webhooks/{webhook}"

routes = [
    Route(f"{_ONE}/ping", ping, methods=["POST"]),
    Route(f"{_ONE}/deliveries", list_all, methods=["GET"]),
    Route(f"{_ONE}/deliveries/{{delivery}}/redeliver", redeliver, methods=["POST"]),
]
