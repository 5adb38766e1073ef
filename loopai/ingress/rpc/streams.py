"""ExecuteBatch and Watch: answers that come in pieces, as they come."""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from loopai import errors
from loopai.ingress import batch, bodies, events, services
from loopai.ingress.rpc import calls, inward, loopai_pb2, messages
from streams import ending

READ_AHEAD_BYTES: Final = 256 * 1024
"""Of items that nobody has taken yet: what came meanwhile is taken together."""
NOT_JSON: Final = b'{"input":}\n'
"""The line of an input that is no JSON: so it is refused like any such line, and nothing else."""


class Streams:
    def __init__(self, shared: services.Services, inside: inward.Inside) -> None:
        self._shared = shared
        self._inside = inside

    async def execute_batch(self, _requests: object, context: inward.Context) -> None:
        await calls.answered(context, lambda: self._execute_batch(context))

    async def watch(self, payload: bytes, context: inward.Context) -> None:
        await calls.answered(context, lambda: self._watch(payload, context))

    async def _execute_batch(self, context: inward.Context) -> None:
        terms = await self._terms(context)
        query = {
            "task_id": terms.task,
            "version": terms.version if terms.HasField("version") else None,
            "ordered": terms.ordered if terms.HasField("ordered") else None,
            "max_concurrency": terms.max_concurrency if terms.HasField("max_concurrency") else None,
            "stop_on_first_error": terms.stop_on_first_error
            if terms.HasField("stop_on_first_error")
            else None,
            "timeout_ms": terms.timeout_ms if terms.HasField("timeout_ms") else None,
        }
        scope = inward.scope(
            "POST",
            "/api/v1/batch/execute",
            inward.headers(context),
            query=query,
            media=batch.NDJSON.encode(),
            key=terms.idempotency_key if terms.HasField("idempotency_key") else None,
        )
        items = _Items(context)
        reading = asyncio.create_task(items.read())
        try:
            await self._through(scope, items, context, messages.responses)
        finally:
            await ending.end(reading)
        if items.wrong is not None:
            raise items.wrong

    async def _watch(self, payload: bytes, context: inward.Context) -> None:
        asked = calls.parsed(loopai_pb2.WatchRequest, payload)
        target = asked.WhichOneof("target")
        if target is None:
            raise inward.invalid("/execution_id", "expected one, or an operation_id")
        kind = target.removesuffix("_id") + "s"
        name = inward.named("WatchRequest", target, getattr(asked, target))
        given = [*inward.headers(context), (b"accept", events.MEDIA_TYPE.encode())]
        if asked.HasField("last_event_id"):
            given.append((b"last-event-id", asked.last_event_id.encode()))
        scope = inward.scope("GET", f"/api/v1/{kind}/{name}/events", given, body=b"")
        await self._through(scope, _Nothing(), context, _events)

    async def _terms(self, context: inward.Context) -> loopai_pb2.BatchTerms:
        """The first message, which has the terms. INVALID_REQUEST, REQUEST_TIMEOUT."""
        receive_s = self._shared.settings.receive_s
        try:
            async with asyncio.timeout(receive_s):
                first = await context.read()
        except TimeoutError as error:
            raise bodies.too_slow(receive_s) from error
        if not isinstance(first, bytes):
            raise inward.invalid("/terms", "expected a first message, with the terms")
        asked = calls.parsed(loopai_pb2.ExecuteBatchRequest, first)
        if asked.WhichOneof("part") != "terms":
            raise inward.invalid("/terms", "expected them in the first message")
        return asked.terms

    async def _through(
        self,
        scope: Scope,
        source: "_Items | _Nothing",
        context: inward.Context,
        make: Callable[[bytes], list[bytes]],
    ) -> None:
        """The application's answer, each piece of it as the messages that *make* makes of it."""
        answer = _Answer(context, make, source.left)
        running = asyncio.create_task(self._inside.run(scope, source.receive, answer.send))
        try:
            await asyncio.shield(running)
        except ClientDisconnect:
            # Before anything was answered; the caller is not there to be told.
            return
        finally:
            # Of a call that was cancelled: the application hears that nobody is there any more.
            source.left.set()
        answer.require_ok()
        context.set_trailing_metadata(inward.told(answer.headers))


class _Nothing:
    """A request without a body, from a caller who leaves when `left`."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


class _Items:
    """Items of a call as a body of lines of JSON: as many at once as have come."""

    def __init__(self, context: inward.Context) -> None:
        self.left = asyncio.Event()
        self.wrong: errors.ApiError | None = None
        """What was wrong with a message: the call ends with it."""
        self._context = context
        self._lines: list[bytes] = []
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    async def read(self) -> None:
        """Read messages until the last; no further than is taken."""
        while isinstance(payload := await self._context.read(), bytes):
            try:
                self._add(payload)
            except errors.ApiError as error:
                self.wrong = error
                self.left.set()
                break
            self._changed.set()
            while self._size > READ_AHEAD_BYTES:
                self._taken.clear()
                await self._taken.wait()
        self._ended = True
        self._changed.set()

    async def receive(self) -> Message:
        """What an ASGI application receives."""
        while not self._lines and not self._ended and not self.left.is_set():
            self._changed.clear()
            await self._changed.wait()
        if self.wrong is None and self._lines:
            body = b"".join(self._lines)
            self._lines, self._size = [], 0
            self._taken.set()
            return {"type": "http.request", "body": body, "more_body": True}
        if self.wrong is None and self._ended:
            self._ended = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    def _add(self, payload: bytes) -> None:
        asked = calls.parsed(loopai_pb2.ExecuteBatchRequest, payload)
        if asked.WhichOneof("part") != "items":
            raise inward.invalid("/items", "expected items in every message but the first")
        for item in asked.items.items:
            line = _line(item)
            self._lines.append(line)
            self._size += len(line)


class _Answer:
    """Takes what an ASGI application sends, and writes it to the call."""

    def __init__(
        self,
        context: inward.Context,
        make: Callable[[bytes], list[bytes]],
        left: asyncio.Event,
    ) -> None:
        self.headers: inward.RawHeaders = []
        self._context = context
        self._make = make
        self._left = left
        self._status = 0
        self._refusal: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None

    def require_ok(self) -> None:
        """Refused, where the answer was a problem document."""
        if self._status >= inward.FAILED_FROM:
            raise inward.refused(self.headers, b"".join(self._refusal))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self.headers = message["status"], message["headers"]
            return
        body = message.get("body", b"")
        if self._status >= inward.FAILED_FROM:
            self._refusal.append(body)
            return
        for each in self._make(body):
            await self._write(each)

    async def _write(self, payload: bytes) -> None:
        # Who has no more patience cancels the wait, not the write: a call has one at a time.
        if self._writing is not None:
            await asyncio.shield(self._writing)
        self._writing = asyncio.create_task(self._written(payload))
        await asyncio.shield(self._writing)

    async def _written(self, payload: bytes) -> None:
        if self._left.is_set():
            return
        try:
            await self._context.write(payload)
        except (asyncio.CancelledError, Exception):  # noqa: BLE001 (of several kinds: the caller left)
            self._left.set()


def _line(item: loopai_pb2.BatchItem) -> bytes:
    """*item* as a line of JSON."""
    try:
        # What is JSON has line breaks between its tokens only.
        value = inward.document("input", item.input).replace(b"\n", b" ").replace(b"\r", b" ")
    except errors.ApiError:
        return NOT_JSON
    told = inward.fields(
        (name, getattr(item, name))
        for name in ("id", "force_validation", "routing_key")
        if item.HasField(name)
    )
    return b'{"input":%b%b}\n' % (value, told)


def _events(body: bytes) -> list[bytes]:
    """The events in *body*, each of which is whole; comments are left out."""
    made = []
    for block in body.split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in block.splitlines() if b": " in line)
        if b"event" in lines:
            event = loopai_pb2.Event(
                id=lines.get(b"id", b"").decode(),
                kind=lines[b"event"].decode(),
                data=lines[b"data"],
            )
            made.append(event.SerializeToString())
    return made
