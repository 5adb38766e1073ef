"""Answers of requests with an idempotency key, but executions: kept, and given again (ADR 0022).

Whoever handles a request holds the claim of its key, and renews it. Others with the same key wait
for the answer; a claim that nobody has renewed for a while passes to one of them.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopai import errors
from loopai.ingress import artifacts, bodies, events, idempotency, identity, services
from streams import store, topology
from streams.messages import IdempotencyClaim, KeptAnswer

log = structlog.get_logger()

ANSWER_BYTES_MAX: Final = topology.MIB
"""Of an answer that is kept. A larger one is given once: the key then says that it was done. So is
one with a secret in it."""
LEASE_S: Final = 5.0
"""Without a renewal, after which the one who handles a request is taken to be gone."""
RENEW_S: Final = 1.0
POLL_S: Final = (0.02, 0.25)
"""First and longest pause of those who wait for another ingress's answer."""
WAIT_MAX_S: Final = 310.0
"""For the first: longer than any request but a stream of items may wait."""
FAILED_FROM: Final = 400
"""Statuses from which on nothing was done that must not be done again."""
KEPT_HEADERS: Final = frozenset(
    {"content-type", "location", "etag", "preference-applied", "cache-control"}
)
_EXECUTE: Final = re.compile(r"/api/v1/tasks/([^/]+/)?execute")
"""Those see to their keys themselves: `once`."""

if topology.MESSAGE_BYTES_MAX < 3 * ANSWER_BYTES_MAX:
    raise topology.TopologyError("an answer must fit into a message with its quotes escaped")
if LEASE_S < 3 * RENEW_S:
    raise topology.TopologyError("a claim must survive two lost renewals")


class Kept:
    """Middleware: requests with a key are handled once, and answered as often as they come."""

    def __init__(
        self, app: ASGIApp, made: services.Services, *, wait_max_s: float = WAIT_MAX_S
    ) -> None:
        self._app = app
        self._claims = made.claims
        self._wait_max_s = wait_max_s
        self._turns = idempotency.Turns()
        known = made.settings
        self._receive_s = known.receive_s
        self._body_bytes_max = max(
            known.batch_bytes_max, known.body_bytes_max, artifacts.UPLOAD_BYTES_MAX
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = idempotency.of_header(scope) if _is_kept(scope) else None
        if key is None:
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length")
        body = await bodies.receive_all(
            receive, length, bytes_max=self._body_bytes_max, receive_s=self._receive_s
        )
        keyed = idempotency.keyed(scope, key, body)
        try:
            # In this process they wait for each other here, and ask the broker one by one.
            async with (
                asyncio.timeout(self._wait_max_s) as waiting,
                self._turns.turn(keyed.name),
            ):
                answer, revision = await self._claimed(keyed, scope)
                waiting.reschedule(None)
                if answer is None:
                    await self._handle(keyed, revision, scope, body, send)
                    return
        except TimeoutError as error:
            if not waiting.expired():
                raise
            raise errors.ApiError(
                "IDEMPOTENCY_KEY_IN_USE",
                f"{idempotency.HEADER}: the first request with this key is still being handled",
                retry_after_s=int(LEASE_S),
            ) from error
        # The body is the same, and so is what it takes; who asks may be somebody else.
        if answer.scopes:
            identity.require(identity.of_scope(scope), answer.scopes, "the answer to this")
        await _replay(answer)(scope, receive, send)

    async def _claimed(
        self, keyed: idempotency.Keyed, scope: Scope
    ) -> tuple[KeptAnswer | None, int]:
        """The answer that is kept, or the revision of the claim that is ours now.

        Waits for as long as somebody renews another claim. IDEMPOTENCY_KEY_REUSED.
        """
        claim = _claim(keyed, scope)
        seen, seen_at, pause_s = 0, 0.0, POLL_S[0]
        while True:
            now = time.monotonic()
            entry = await self._claims.get(keyed.name)
            with contextlib.suppress(store.Conflict):
                if entry is None:
                    return None, await self._claims.create(keyed.name, claim)
                keyed.require_same(entry.value)
                if entry.value.answer is not None:
                    return entry.value.answer, entry.revision
                # By our own clock since we saw it renewed: nobody's clock is compared with another.
                if entry.revision != seen:
                    seen, seen_at = entry.revision, now
                elif now - seen_at >= LEASE_S:
                    return None, await self._claims.update(keyed.name, claim, seen)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S[1])

    async def _handle(
        self, keyed: idempotency.Keyed, revision: int, scope: Scope, body: bytes, send: Send
    ) -> None:
        """Have the request answered; keep the answer before anybody sees it."""
        lease = _Lease(self._claims, keyed.name, _claim(keyed, scope), revision)
        answer = _Answer(send)
        try:
            async with lease.renewed():
                await self._app(scope, _given(body), answer.take)
        except Exception:
            await lease.drop()
            raise
        kept = msgspec.structs.replace(answer.kept(), scopes=identity.also(scope))
        if kept.status >= FAILED_FROM:
            await lease.drop()
        else:
            await lease.keep(kept)
        await answer.end()


class _Lease:
    """Our claim of a key. Others may have it when we are slow: then nothing happens here."""

    def __init__(
        self,
        claims: store.Bucket[IdempotencyClaim],
        name: str,
        claim: IdempotencyClaim,
        revision: int,
    ) -> None:
        self._claims = claims
        self._name = name
        self._claim = claim
        self._revision = revision
        self._writing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            # Not in the middle of a write: its revision would not be known.
            async with self._writing:
                renewing.cancel()

    async def keep(self, answer: KeptAnswer) -> None:
        await self._write(msgspec.structs.replace(self._claim, answer=answer))

    async def drop(self) -> None:
        """Nothing was done: the next one may have the key."""
        with contextlib.suppress(store.Conflict, store.StoreUnavailable):
            await self._claims.delete(self._name, self._revision)

    async def _renew(self) -> None:
        lost = False
        while not lost:
            await asyncio.sleep(RENEW_S)
            async with self._writing:
                lost = not await self._write(self._claim)

    async def _write(self, claim: IdempotencyClaim) -> bool:
        """False: somebody else has the key."""
        try:
            self._revision = await self._claims.update(self._name, claim, self._revision)
        except store.Conflict:
            # What was done is done, and its caller is told.
            log.warning("the claim of an idempotency key was lost", name=self._name)
            return False
        except store.StoreUnavailable as error:
            log.warning("the claim of an idempotency key was not written", reason=str(error))
        return True


class _Answer:
    """An answer on its way: held back until it is kept, or known to be too large for that."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._start: Message = {}
        self._parts: list[bytes] | None = []
        """None: too large."""
        self._size = 0

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif self._parts is not None:
            self._parts.append(message.get("body", b""))
            self._size += len(self._parts[-1])
            if self._size > ANSWER_BYTES_MAX:
                self._parts = None
                self._held.append(message)
                await self.end()
                return
        if self._parts is None:
            await self._send(message)
        else:
            self._held.append(message)

    def kept(self) -> KeptAnswer:
        headers = Headers(raw=self._start["headers"])
        # What no cache may have, such as a key that is shown once, rests nowhere on the bus.
        # Events are for no cache either, but because they are of a moment.
        is_secret = headers.get("cache-control") == "no-store" and not headers[
            "content-type"
        ].startswith(events.MEDIA_TYPE)
        body = b"".join(self._parts).decode() if self._parts is not None and not is_secret else None
        return KeptAnswer(
            status=self._start["status"],
            headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
            body=body,
        )

    async def end(self) -> None:
        """Send what was held back."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)


def _is_kept(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and scope["path"].startswith("/api/v1/")
        and _EXECUTE.fullmatch(scope["path"]) is None
    )


def _claim(keyed: idempotency.Keyed, scope: Scope) -> IdempotencyClaim:
    return IdempotencyClaim(
        fingerprint=keyed.fingerprint,
        tenant=identity.of_scope(scope).tenant,
        claimed_at=datetime.now(UTC),
    )


def _given(body: bytes) -> Receive:
    """*body*, and then nothing: a caller who leaves does not end what others may ask for again."""
    pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not pieces:
            await asyncio.Event().wait()
        return pieces.pop()

    return receive


def _replay(answer: KeptAnswer) -> Response:
    """ANSWER_NOT_KEPT."""
    if answer.body is None:
        raise errors.ApiError(
            "ANSWER_NOT_KEPT",
            "the request with this key was done; its answer held a secret, or more than the "
            f"{ANSWER_BYTES_MAX} bytes that are kept",
        )
    return Response(answer.body, answer.status, {**answer.headers, **idempotency.REPLAYED})
