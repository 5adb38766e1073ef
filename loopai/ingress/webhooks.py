"""`/api/v1/webhooks`: who is told of what."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.ingress import bodies, identity, preconditions, services
from loopai.webhooks import signature, subscriptions, target
from streams import ids
from streams.messages import Webhook, WebhookEvent

FORMER_SECRET: Final = timedelta(hours=24)
"""How long the secret before the last one still signs."""
_SHOWN_ONCE: Final = {"Cache-Control": "no-store"}
"""With a secret in it an answer is not kept, not for its `Idempotency-Key` either."""

Description = Annotated[str, msgspec.Meta(max_length=1_000)]
Events = Annotated[tuple[WebhookEvent, ...], msgspec.Meta(min_length=1, max_length=32)]


class CreateWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    events: Events
    task: str | None = None
    """Id or name; None: all tasks of the tenant."""
    secret: str | None = None
    description: Description = ""
    enabled: bool = True


class PatchWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are absent stay as they are."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    events: Events | msgspec.UnsetType = msgspec.UNSET
    task: str | msgspec.UnsetType | None = msgspec.UNSET
    secret: str | msgspec.UnsetType = msgspec.UNSET
    rotate_secret: bool = False
    description: Description | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook without its secrets."""

    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    task: str | None
    description: str
    enabled: bool
    disabled_reason: str
    former_secret_until: datetime | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    secret: str | msgspec.UnsetType = msgspec.UNSET
    """Only in the answer to the request that made it."""


_create = msgspec.json.Decoder(CreateWebhook)
_patch = msgspec.json.Decoder(PatchWebhook)


async def create(request: Request) -> Response:
    shared = services.of(request)
    asked = bodies.decode(await bodies.read(request, shared.settings.body_bytes_max), _create)
    _check(shared, asked.url, asked.secret)
    caller = identity.of(request)
    now = datetime.now(UTC)
    webhook = Webhook(
        id=ids.new(),
        tenant=caller.tenant,
        url=asked.url,
        events=_distinct(asked.events),
        task=await _task(request, asked.task),
        secret=asked.secret or signature.new_secret(),
        description=asked.description,
        enabled=asked.enabled,
        since=now,
        created_at=now,
        created_by=caller.name,
        updated_at=now,
    )
    revision = await subscriptions.Subscriptions(shared.connection).create(webhook)
    headers = {"Location": f"/api/v1/webhooks/{webhook.id}", **_SHOWN_ONCE}
    view = _view(webhook, secret=webhook.secret)
    return bodies.json(view, 201, headers | preconditions.etag(revision))


async def list_all(request: Request) -> Response:
    found = await kept(request).list_all(identity.of(request).tenant)
    return bodies.json({"webhooks": [_view(each) for each in found]})


async def get(request: Request) -> Response:
    return _answer(await entry(request))


async def patch(request: Request) -> Response:
    shared = services.of(request)
    asked = bodies.decode(await bodies.read(request, shared.settings.body_bytes_max), _patch)
    secret = None if asked.secret is msgspec.UNSET else asked.secret
    _check(shared, None if asked.url is msgspec.UNSET else asked.url, secret)
    if asked.rotate_secret and secret is None:
        secret = signature.new_secret()
    fields: dict[str, object] = {
        name: value
        for name in ("url", "events", "task", "description", "enabled")
        if (value := getattr(asked, name)) is not msgspec.UNSET
    }
    if isinstance(asked.events, tuple):
        fields["events"] = _distinct(asked.events)
    if isinstance(asked.task, str):
        fields["task"] = await _task(request, asked.task)
    now = datetime.now(UTC)

    def changed(webhook: Webhook) -> Webhook:
        more = _enabled(webhook, fields, now) | _signed(webhook, secret, now)
        return msgspec.structs.replace(webhook, **fields, **more, updated_at=now)

    found = await kept(request).change(
        identity.of(request).tenant,
        request.path_params["webhook"],
        changed,
        revision=preconditions.if_match(request),
    )
    return _answer(found, secret=secret)


async def delete(request: Request) -> Response:
    await kept(request).delete(
        identity.of(request).tenant,
        request.path_params["webhook"],
        revision=preconditions.if_match(request),
    )
    return Response(status_code=204)


def kept(request: Request) -> subscriptions.Subscriptions:
    return subscriptions.Subscriptions(services.of(request).connection)


async def entry(request: Request) -> subscriptions.Entry:
    """The webhook that the path names. WEBHOOK_NOT_FOUND."""
    return await kept(request).get(identity.of(request).tenant, request.path_params["webhook"])


async def _task(request: Request, reference: str | None) -> str | None:
    """The name of the task. TASK_NOT_FOUND."""
    if reference is None:
        return None
    catalog = services.of(request).catalog
    return (await catalog.task(identity.of(request).tenant, reference)).name


def _check(shared: services.Services, url: str | None, secret: str | None) -> None:
    """INVALID_REQUEST."""
    found = []
    if url is not None:
        try:
            target.parsed(url, shared.settings.webhook_networks)
        except target.InvalidUrl as error:
            found.append(errors.FieldError("/url", str(error)))
    if secret is not None and not signature.is_secret(secret):
        message = (
            f"expected {signature.PREFIX} and the base64 of {signature.KEY_BYTES_LEAST} to "
            f"{signature.KEY_BYTES_MOST} bytes; without one it is made for you"
        )
        found.append(errors.FieldError("/secret", message))
    if found:
        raise errors.ApiError(
            "INVALID_REQUEST", f"{found[0].path}: {found[0].message}", errors=tuple(found)
        )


def _distinct(events: tuple[WebhookEvent, ...]) -> tuple[WebhookEvent, ...]:
    return tuple(dict.fromkeys(events))


def _enabled(webhook: Webhook, fields: dict[str, object], now: datetime) -> dict[str, object]:
    """Once enabled again it is not told what it has missed."""
    if "enabled" not in fields:
        return {}
    if fields["enabled"] and not webhook.enabled:
        return {"since": now, "disabled_reason": ""}
    return {"disabled_reason": ""}


def _signed(webhook: Webhook, secret: str | None, now: datetime) -> dict[str, object]:
    if secret is None or secret == webhook.secret:
        return {}
    return {
        "secret": secret,
        "former_secret": webhook.secret,
        "former_until": now + FORMER_SECRET,
    }


def _answer(entry: subscriptions.Entry, secret: str | None = None) -> Response:
    headers = preconditions.etag(entry.revision)
    if secret is not None:
        headers |= _SHOWN_ONCE
    return bodies.json(_view(entry.value, secret=secret), headers=headers)


def _view(webhook: Webhook, secret: str | None = None) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=webhook.events,
        task=webhook.task,
        description=webhook.description,
        enabled=webhook.enabled,
        disabled_reason=webhook.disabled_reason,
        former_secret_until=webhook.former_until,
        created_at=webhook.created_at,
        created_by=webhook.created_by,
        updated_at=webhook.updated_at,
        secret=msgspec.UNSET if secret is None else secret,
    )


_ONE: Final = "/webhooks/{webhook}"

routes = [
    Route("/webhooks", create, methods=["POST"]),
    Route("/webhooks", list_all, methods=["GET"]),
    Route(_ONE, get, methods=["GET"]),
    Route(_ONE, patch, methods=["PATCH"]),
    Route(_ONE, delete, methods=["DELETE"]),
]
