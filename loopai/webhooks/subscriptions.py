"""The subscriptions of all tenants, on the bus; and what became of their deliveries."""

import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors

from loopai import errors
from streams import codec, publisher, replay, store, subjects, topology
from streams.connection import Connection
from streams.messages import Webhook, WebhookAttempt, WebhookDelivery

CAS_ATTEMPTS: Final = 32
WEBHOOKS_MAX: Final = 500
"""Of one tenant."""

Entry = store.Entry[Webhook]


class Subscriptions:
    """Errors are errors.ApiError, or those of the store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bucket = store.Bucket(connection, topology.SUBSCRIPTIONS, codec.WEBHOOK)

    async def get(self, tenant: str, webhook_id: str) -> Entry:
        """WEBHOOK_NOT_FOUND."""
        known = subjects.is_name(webhook_id)
        found = await self._bucket.get(subjects.webhook_key(tenant, webhook_id)) if known else None
        if found is None:
            raise errors.ApiError("WEBHOOK_NOT_FOUND", f"no webhook {webhook_id[:64]!r}")
        return found

    async def list_all(self, tenant: str) -> list[Webhook]:
        """Those of *tenant*, the oldest first."""
        stream = topology.SUBSCRIPTIONS.stream
        # With a name in its place `*` is one token: nobody else's keys match.
        subject = f"$KV.{topology.SUBSCRIPTIONS.name}." + subjects.webhook_key(tenant, "x")[:-1]
        reading = replay.read(self._connection, stream, subject + "*")
        async with contextlib.aclosing(reading) as stored:
            found = [
                codec.WEBHOOK.decode(each.payload)
                async for each in stored
                if "KV-Operation" not in each.headers
            ]
        return sorted(found, key=lambda each: each.created_at)

    async def create(self, webhook: Webhook) -> int:
        """Its revision. TOO_MANY_WEBHOOKS."""
        if len(await self.list_all(webhook.tenant)) >= WEBHOOKS_MAX:
            raise errors.ApiError(
                "TOO_MANY_WEBHOOKS",
                f"there are {WEBHOOKS_MAX} webhooks already; delete one that nobody needs",
            )
        return await self._bucket.create(_key(webhook), webhook)

    async def change(
        self,
        tenant: str,
        webhook_id: str,
        change: Callable[[Webhook], Webhook],
        *,
        revision: int | None = None,
    ) -> Entry:
        """Apply *change*; at *revision* where one is given (else PRECONDITION_FAILED)."""
        for _ in range(CAS_ATTEMPTS):
            entry = await self.get(tenant, webhook_id)
            _require(entry, revision)
            changed = change(entry.value)
            if changed is entry.value:
                return entry
            with contextlib.suppress(store.Conflict):
                written = await self._bucket.update(_key(changed), changed, entry.revision)
                return store.Entry(changed, written)
        raise errors.ApiError("CONFLICT", f"the webhook {webhook_id!r} keeps changing; try again")

    async def delete(self, tenant: str, webhook_id: str, *, revision: int | None = None) -> None:
        """With what waits for it and its history."""
        entry = await self.get(tenant, webhook_id)
        _require(entry, revision)
        try:
            await self._bucket.delete(_key(entry.value), entry.revision)
        except store.Conflict as error:
            raise errors.ApiError("CONFLICT", "the webhook changed meanwhile") from error
        for stream, subject in (
            (topology.WEBHOOKS, subjects.webhook(tenant, webhook_id)),
            (topology.WEBHOOK_LOG, subjects.webhook_log(tenant, webhook_id)),
        ):
            # Left there it is not posted, and ages.
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self._connection.jetstream.purge_stream(stream.name, subject=subject)

    async def attempts(self, tenant: str, webhook_id: str) -> list[WebhookAttempt]:
        """The latest of them, the oldest first."""
        subject = subjects.webhook_log(tenant, webhook_id)
        reading = replay.read(self._connection, topology.WEBHOOK_LOG.name, subject)
        async with contextlib.aclosing(reading) as stored:
            return [codec.WEBHOOK_ATTEMPT.decode(each.payload) async for each in stored]

    async def send(self, tenant: str, delivery: WebhookDelivery, *, message_id: str) -> None:
        """Put *delivery* into the queue. publisher.BacklogFull, NotPublished."""
        await publisher.publish(
            self._connection,
            subjects.webhook(tenant, delivery.webhook_id),
            codec.WEBHOOK_DELIVERY.encode(delivery),
            message_id=message_id,
        )

    async def note(self, tenant: str, attempt: WebhookAttempt, *, message_id: str) -> None:
        """Put *attempt* into the history. publisher.NotPublished."""
        await publisher.publish(
            self._connection,
            subjects.webhook_log(tenant, attempt.delivery.webhook_id),
            codec.WEBHOOK_ATTEMPT.encode(attempt),
            message_id=message_id,
        )

    async def disable(self, webhook: Webhook, reason: str) -> None:
        """Until somebody enables it again."""

        def changed(current: Webhook) -> Webhook:
            if not current.enabled or current.since != webhook.since:
                return current
            return msgspec.structs.replace(current, enabled=False, disabled_reason=reason)

        with contextlib.suppress(errors.ApiError):  # deleted meanwhile
            await self.change(webhook.tenant, webhook.id, changed)


def _key(webhook: Webhook) -> str:
    return subjects.webhook_key(webhook.tenant, webhook.id)


def _require(entry: Entry, revision: int | None) -> None:
    if revision is not None and revision != entry.revision:
        raise errors.ApiError(
            "PRECONDITION_FAILED", f"the webhook is at revision {entry.revision}, not {revision}"
        )
