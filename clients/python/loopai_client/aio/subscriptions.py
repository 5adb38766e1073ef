"""API keys, and webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from loopai_client import models, requests
from loopai_client.aio.transport import Transport
from loopai_client.requests import UNSET, path, request


class Keys:
    """API keys; these take the scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        tenant: str | None = None,
        expires_at: datetime | None = None,
    ) -> models.ApiKey:
        """A new key, which is in `key`, this once."""
        body = requests.given(name=name, scopes=scopes, tenant=tenant, expires_at=expires_at)
        asked = request("POST", path("keys"), body=body)
        return await self._transport.send(asked, models.ApiKey)

    async def list(self, *, tenant: str | None = None) -> list[models.ApiKey]:
        """All keys, those that have ended as well."""
        asked = request("GET", path("keys"), query={"tenant": tenant})
        return (await self._transport.send(asked, models.ApiKeys)).keys

    async def revoke(self, id: str) -> models.ApiKey:  # noqa: A002 (the API's word)
        """End a key."""
        return await self._transport.send(request("DELETE", path("keys", id)), models.ApiKey)


class Webhooks:
    """What Loopai posts to a server of yours; `verify_webhook` says whether it was Loopai."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        url: str,
        events: Sequence[str],
        *,
        task: str | None = None,
        secret: str | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> models.Webhook:
        """Subscribe *url* to *events*, of one task or of all. `secret` is in this answer alone."""
        body = requests.given(
            url=url,
            events=events,
            task=task,
            secret=secret,
            description=description,
            enabled=enabled,
        )
        asked = request("POST", path("webhooks"), body=body)
        return await self._transport.send(asked, models.Webhook)

    async def get(self, id: str) -> models.Webhook:  # noqa: A002 (the API's word)
        """One webhook."""
        return await self._transport.send(request("GET", path("webhooks", id)), models.Webhook)

    async def change(
        self,
        id: str,  # noqa: A002 (the API's word)
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        task: Any = UNSET,
        secret: str | None = None,
        rotate_secret: bool | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> models.Webhook:
        """Change the fields given; *task* None: of all tasks."""
        body = requests.given(
            url=url,
            events=events,
            secret=secret,
            rotate_secret=rotate_secret,
            description=description,
            enabled=enabled,
        )
        asked = request("PATCH", path("webhooks", id), body=body | {"task": task})
        return await self._transport.send(asked, models.Webhook)

    async def delete(self, id: str) -> None:  # noqa: A002 (the API's word)
        """Unsubscribe; what waits for it goes too."""
        await self._transport.read(request("DELETE", path("webhooks", id)))

    async def ping(self, id: str) -> models.Accepted:  # noqa: A002 (the API's word)
        """Have a `webhook.ping` posted: the id is that of the delivery."""
        asked = request("POST", path("webhooks", id, "ping"))
        return await self._transport.send(asked, models.Accepted)

    async def deliveries(self, id: str) -> list[models.Delivery]:  # noqa: A002
        """What was posted lately, and what became of it."""
        asked = request("GET", path("webhooks", id, "deliveries"))
        return (await self._transport.send(asked, models.Deliveries)).deliveries

    async def redeliver(self, id: str, delivery: str) -> models.Accepted:  # noqa: A002
        """Post it again."""
        asked = request("POST", path("webhooks", id, "deliveries", delivery, "redeliver"))
        return await self._transport.send(asked, models.Accepted)

    async def list(self) -> list[models.Webhook]:
        """All webhooks, the oldest first."""
        asked = request("GET", path("webhooks"))
        return (await self._transport.send(asked, models.Webhooks)).webhooks
