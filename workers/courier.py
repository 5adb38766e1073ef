"""Posts deliveries to webhooks, and decides what is to become of those that fail."""

import http
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import httpcore
import msgspec

from loopai.webhooks import addresses, schedule, signature, subscriptions, target, transport
from streams import codec, publisher, subjects
from streams.consumer import Delivery
from streams.messages import Webhook, WebhookAttempt, WebhookDelivery
from workers import feeds, gate, metrics, runtime

ENDPOINT_POSTS_MAX: Final = 4
"""To one webhook at once, from one notifier."""
TENANT_POSTS_MAX: Final = 32
"""Of one tenant at once: others find slots."""
RESPONSE_CHARACTERS_MAX: Final = 1_024
"""Of an answer the history keeps."""
ERROR_CHARACTERS_MAX: Final = 500
"""Of what went wrong: it may quote a hundred kilobytes of what a receiver wrote."""
USER_AGENT: Final = "Loopai-Webhook/1"
EARLY_S: Final = 0.05
"""What is due so soon is posted now."""


class Courier:
    """Handles deliveries of WEBHOOKS. Dependencies are closed by whoever made them."""

    def __init__(
        self,
        known: feeds.Known,
        kept: subscriptions.Subscriptions,
        poster: transport.Poster,
        counts: metrics.WebhookCounts,
        *,
        allowed: Sequence[addresses.Network] = (),
        delays_s: Sequence[float] = schedule.DELAYS_S,
    ) -> None:
        self._known = known
        self._subscriptions = kept
        self._poster = poster
        self._counts = counts
        self._allowed = allowed
        self._delays_s = delays_s
        self._endpoints = gate.Gate(ENDPOINT_POSTS_MAX)
        self._tenants = gate.Gate(TENANT_POSTS_MAX)

    async def handle(self, delivery: Delivery) -> None:
        """Post it, unless it is too early or too much is under way: then runtime.Later."""
        made = codec.WEBHOOK_DELIVERY.decode(delivery.payload)
        tenant, _ = subjects.owner(delivery.subject)
        if made.due_at is not None:
            early_s = (made.due_at - datetime.now(UTC)) / timedelta(seconds=1)
            if early_s > EARLY_S:
                raise runtime.Later(early_s)
        webhook = await self._webhook(tenant, made.webhook_id)
        if webhook is None or not webhook.enabled:
            return  # nobody wants it any more
        self._enter(webhook)
        started = time.perf_counter()
        try:
            attempt, retry_s = await self._post(webhook, made)
        finally:
            took_s = time.perf_counter() - started
            self._tenants.leave(tenant, took_s)
            self._endpoints.leave(webhook.id, took_s)
        await self._conclude(webhook, attempt, retry_s, delivery)

    async def _webhook(self, tenant: str, webhook_id: str) -> Webhook | None:
        key = subjects.webhook_key(tenant, webhook_id)
        entries = self._known.webhooks.entries
        if key not in entries:
            await self._known.webhooks.settle()
        return entries[key].value if key in entries else None

    def _enter(self, webhook: Webhook) -> None:
        now = time.monotonic()
        wait_s = self._endpoints.enter(webhook.id, now)
        if not wait_s:
            wait_s = self._tenants.enter(webhook.tenant, now)
            if not wait_s:
                return
            self._endpoints.leave(webhook.id, gate.FIRST_GUESS_S)
        raise runtime.Later(wait_s)

    async def _post(
        self, webhook: Webhook, made: WebhookDelivery
    ) -> tuple[WebhookAttempt, float | None]:
        """What came of it, and how long the receiver asks to be left alone."""
        now = datetime.now(UTC)
        started = time.perf_counter()
        status: int | None = None
        retry_s: float | None = None
        error = response = ""
        try:
            url = target.parsed(webhook.url, self._allowed)
            answer = await self._poster.post(url, _headers(webhook, made, now), made.body)
        except target.InvalidUrl as reason:
            error = f"the URL may not be called: {reason}"
        except transport.Refused as reason:
            error = str(reason)
        except (TimeoutError, httpcore.TimeoutException):
            error = f"no whole answer within {transport.POST_S:g} s"
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError) as reason:
            error = f"no answer: {str(reason) or type(reason).__name__}"
        else:
            status = answer.status
            retry_s = schedule.retry_after_s(answer.retry_after, now)
            response = answer.body.decode(errors="replace")[:RESPONSE_CHARACTERS_MAX]
            if not 200 <= status < 300:  # noqa: PLR2004 (success, as HTTP has it)
                error = f"the endpoint answered {status}"
        return WebhookAttempt(
            delivery=made,
            at=now,
            outcome="retrying" if error else "succeeded",
            status_code=status,
            error=error[:ERROR_CHARACTERS_MAX],
            response=response,
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
        ), retry_s

    async def _conclude(
        self,
        webhook: Webhook,
        attempt: WebhookAttempt,
        retry_s: float | None,
        delivery: Delivery,
    ) -> None:
        """Plan the next attempt where there is one, and write down what happened.

        In this order: what is not acknowledged by the end of it is posted again.
        """
        # Another attempt may have begun elsewhere by now, and is written down there.
        if not delivery.leased:
            raise runtime.LeaseLost
        message_id = f"{attempt.delivery.id}:{delivery.sequence}"
        gone = attempt.status_code == http.HTTPStatus.GONE
        if attempt.outcome == "retrying":
            attempt = self._planned(attempt, retry_s, gone=gone)
            if attempt.next_at is not None:
                await self._again(webhook, attempt, message_id)
        self._counts.attempts[attempt.outcome] += 1
        await self._subscriptions.note(webhook.tenant, attempt, message_id=message_id)
        if gone:
            await self._subscriptions.disable(webhook, "the endpoint answered 410 Gone")
        elif attempt.outcome == "failed" and not await self._works(webhook, attempt):
            await self._subscriptions.disable(
                webhook,
                f"nothing was delivered since {attempt.delivery.created_at:%Y-%m-%d %H:%M} UTC; "
                f"the last time {attempt.error}",
            )

    def _planned(
        self, attempt: WebhookAttempt, retry_s: float | None, *, gone: bool
    ) -> WebhookAttempt:
        chance = random.random()  # noqa: S311 (no secret)
        number = attempt.delivery.attempt
        delay_s = schedule.delay_s(number, retry_s, chance, self._delays_s)
        if gone or delay_s is None:
            return msgspec.structs.replace(attempt, outcome="failed")
        next_at = datetime.now(UTC) + timedelta(seconds=delay_s)
        return msgspec.structs.replace(attempt, next_at=next_at)

    async def _again(self, webhook: Webhook, attempt: WebhookAttempt, message_id: str) -> None:
        next_one = msgspec.structs.replace(
            attempt.delivery, attempt=attempt.delivery.attempt + 1, due_at=attempt.next_at
        )
        try:
            await self._subscriptions.send(webhook.tenant, next_one, message_id=message_id)
        except publisher.BacklogFull as error:
            # There is no place beside itself: this attempt does not count.
            raise runtime.Later(self._delays_s[0]) from error

    async def _works(self, webhook: Webhook, attempt: WebhookAttempt) -> bool:
        """Whether anything has been delivered since this one was made."""
        history = await self._subscriptions.attempts(webhook.tenant, webhook.id)
        since = attempt.delivery.created_at
        return any(each.outcome == "succeeded" and each.at >= since for each in history)


def _headers(webhook: Webhook, made: WebhookDelivery, now: datetime) -> dict[str, str]:
    keys = [webhook.secret]
    if webhook.former_secret and webhook.former_until and now < webhook.former_until:
        keys.append(webhook.former_secret)
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        **signature.headers(keys, made.id, int(now.timestamp()), made.body),
    }
