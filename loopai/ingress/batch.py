"""`POST /api/v1/batch/execute`: many inputs in one request, each with its own result.

As JSON, or as lines of JSON: then results are written while items are still being read, and a batch
has no end of its own. Either is answered as events where those are asked for. All are one
`flow.Flow`; here is how items and results look.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Annotated, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from loopai import errors
from loopai.ingress import (
    bodies,
    events,
    execute,
    flow,
    identity,
    ndjson,
    problems,
    rates,
    services,
)
from streams import ending, ids
from streams.messages import Problem

NDJSON: Final = "application/x-ndjson"
NDJSON_TYPES: Final = frozenset({NDJSON, "application/ndjson", "application/jsonl"})
WRITE_BYTES: Final = 64 * 1024
"""Results of a JSON answer gather to this size: below it the answer leaves in one piece."""

Concurrency = Annotated[int, msgspec.Meta(ge=1, le=flow.CONCURRENCY)]


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task_id: str
    """Id or name."""
    items: list[flow.Item]
    version: int | None = None
    max_concurrency: Concurrency = flow.CONCURRENCY
    stop_on_first_error: bool = False
    timeout_ms: int | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same of a stream, where lines are the items."""

    task_id: str
    version: int | None = None
    ordered: bool = True
    max_concurrency: Concurrency = flow.CONCURRENCY
    stop_on_first_error: bool = False
    timeout_ms: int | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    batch_id: str
    task_id: str
    total: int
    succeeded: int
    failed: int
    """Every item that has another status than `success`."""
    duration_ms: float


class LastLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    summary: Summary
    problem: Problem | None = None
    """Why the stream ended before its end."""


_decoder = msgspec.json.Decoder(Batch)
_item = msgspec.json.Decoder(flow.Item)
_encoder = msgspec.json.Encoder()


async def execute_batch(request: Request) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return await (_stream(request) if media_type in NDJSON_TYPES else _whole(request))


async def _whole(request: Request) -> Response:
    started = time.perf_counter()
    shared = services.of(request)
    raw = await bodies.read(request, shared.settings.batch_bytes_max)
    body = bodies.decode(raw, _decoder)
    if len(body.items) > shared.settings.batch_items_max:
        message = f"a batch holds at most {shared.settings.batch_items_max} items"
        raise errors.ApiError(
            "INVALID_REQUEST", message, errors=(errors.FieldError("/items", message),)
        )
    task = await shared.catalog.task(identity.of(request).tenant, body.task_id)
    timeout_ms = execute.timeout(body.timeout_ms, shared)
    await execute.require_version(shared, task, body.version)
    as_events = events.wanted(request)
    terms = flow.Terms(
        task=task,
        version=body.version,
        timeout_ms=timeout_ms,
        trace_id=problems.trace_id(request),
        place="/items/{}/input".format,
        encode=_events if as_events else _elements,
        max_concurrency=body.max_concurrency,
        stop_on_first_error=body.stop_on_first_error,
    )
    await shared.limiter.spend(request.scope, "executions", len(body.items))
    give = _give_events if as_events else _give_array
    return _Answer(_Run(shared, terms, started, request), _of_items(body.items), give)


async def _stream(request: Request) -> Response:
    started = time.perf_counter()
    shared = services.of(request)
    query = _query(request)
    task = await shared.catalog.task(identity.of(request).tenant, query.task_id)
    try:
        timeout_ms = execute.timeout(query.timeout_ms, shared)
    except errors.ApiError as error:
        raise errors.ApiError("INVALID_QUERY", error.detail) from error
    await execute.require_version(shared, task, query.version)
    as_events = events.wanted(request)
    terms = flow.Terms(
        task=task,
        version=query.version,
        timeout_ms=timeout_ms,
        trace_id=problems.trace_id(request),
        place="line {}, /input".format,
        encode=_events if as_events else _encoder.encode_lines,
        max_concurrency=query.max_concurrency,
        stop_on_first_error=query.stop_on_first_error,
        ordered=query.ordered,
        patient=True,
    )
    give = _give_events if as_events else _give_lines
    counted = functools.partial(_within_quota, shared.limiter, request.scope)
    limited = shared.limiter.limits(identity.of(request))
    feed = functools.partial(_feed_lines, counted=counted if limited else None)
    return _Answer(_Run(shared, terms, started, request), feed, give)


def _query(request: Request) -> Query:
    """The parameters of a stream. INVALID_QUERY."""
    both = bodies.twice(request.query_params)
    if both:
        raise errors.ApiError("INVALID_QUERY", f"in the query: {both[:100]} {bodies.TWICE}")
    given = {bodies.snake_case(name): value for name, value in request.query_params.items()}
    try:
        return msgspec.convert(given, Query, strict=False)
    except msgspec.ValidationError as error:
        raise errors.ApiError("INVALID_QUERY", f"in the query: {error}") from error


class _Run:
    """One batch, from its items to its summary. `problem` is why a stream ended early."""

    def __init__(
        self, shared: services.Services, terms: flow.Terms, started: float, request: Request
    ) -> None:
        self._callers = shared.callers
        self._headers = request.headers.raw
        self.settings = shared.settings
        self.flow = flow.Flow(shared.dispatcher, terms)
        self.problem: Problem | None = None
        self.id = ids.new()
        self.task_id = terms.task.id
        self._started = started

    def is_welcome(self) -> bool:
        """Whether the key that began it is still valid."""
        return self._callers is None or self._callers.holds(self._headers)

    def summary(self) -> Summary:
        return Summary(
            batch_id=self.id,
            task_id=self.task_id,
            total=self.flow.total,
            succeeded=self.flow.succeeded,
            failed=self.flow.total - self.flow.succeeded,
            duration_ms=round((time.perf_counter() - self._started) * 1000, 3),
        )


class _Pieces:
    """The body as it comes, a piece ahead; and whether the client is still there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)

    async def hear(self) -> None:
        """Receive for ever: also behind the body, as only that tells of a client that leaves.

        Raises ClientDisconnect.
        """
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            await self._queue.put(message.get("body", b""))
            if not message.get("more_body", False):
                await self._queue.put(None)

    async def next(self) -> bytes | None:
        """The next piece; None behind the last."""
        return await self._queue.get()


class Unread(Exception):  # noqa: N818 (it says what the answer is)
    """The client does not read what it is answered."""


Feed = Callable[[_Run, _Pieces], Coroutine[None, None, None]]
Counted = Callable[[list[flow.Entry]], Coroutine[None, None, Iterable[flow.Entry]]]
Give = Callable[[_Run, Send], Coroutine[None, None, None]]


class _Answer(Response):
    """Runs *feed*, which takes items, and *give*, which writes the answer, side by side."""

    def __init__(self, run: _Run, feed: Feed, give: Give) -> None:
        super().__init__()
        self._run, self._feed, self._give = run, feed, give

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        pieces = _Pieces(receive)
        started = left = False

        async def write(message: Message) -> None:
            nonlocal started
            started = True
            try:
                async with asyncio.timeout(self._run.settings.batch_idle_s):
                    await send(message)
            except TimeoutError as error:
                raise Unread from error

        try:
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(pieces.hear())
                group.create_task(self._feed(self._run, pieces))
                # The first receive tells `100 Continue` to who waits for it; then comes the answer.
                await asyncio.sleep(0)
                await self._give(self._run, write)
                hearing.cancel()
        except* (ClientDisconnect, Unread):
            left = True
        finally:
            self._run.flow.close()
        if left and not started:
            raise ClientDisconnect


def _of_items(items: list[flow.Item]) -> Feed:
    """Feeds what has come already."""

    async def feed(run: _Run, _pieces: _Pieces) -> None:
        await run.flow.take(enumerate(items))
        run.flow.end()

    return feed


async def _give_array(run: _Run, send: Send) -> None:
    """Results in an object, as they come: it is nowhere in memory as a whole."""
    parts, size, started, comma = [b'{"results":['], 0, False, b""
    async for elements in run.flow.results():
        parts += (comma, elements)
        comma = b","
        size += len(elements)
        if size > WRITE_BYTES:
            if not started:
                await send(_start("application/json"))
                started = True
            await send(_body(b"".join(parts), more=True))
            parts, size = [], 0
    parts += (b"],", _encoder.encode(run.summary())[1:])
    body = b"".join(parts)
    if not started:
        await send(_start("application/json", len(body)))
    await send(_body(body, more=False))


def _elements(results: list[flow.Result]) -> bytes:
    """*results* as elements of an array, without its brackets."""
    return _encoder.encode(results)[1:-1]


async def _feed_lines(run: _Run, pieces: _Pieces, counted: Counted | None) -> None:
    bytes_max, idle_s = run.settings.body_bytes_max, run.settings.batch_idle_s
    lines = ndjson.Lines(bytes_max)
    while True:
        try:
            async with asyncio.timeout(idle_s):
                piece = await pieces.next()
        except TimeoutError:
            if run.flow.is_idle:
                # Not where it is told already that nobody reads.
                run.problem = run.problem or Problem(
                    code="INPUT_IDLE", message=f"no item came for {idle_s} s"
                )
                break
            continue  # it may well wait for what is on its way
        if not run.is_welcome():
            run.problem = Problem(
                code="UNAUTHENTICATED", message="the key has ended; no more items are taken"
            )
            break
        entries = _entries(lines.rest() if piece is None else lines.feed(piece), bytes_max)
        await run.flow.take(entries if counted is None else await counted(list(entries)))
        if piece is None:
            break
    run.flow.end()


async def _within_quota(
    limiter: rates.Limiter, scope: Scope, entries: list[flow.Entry]
) -> Iterable[flow.Entry]:
    """*entries*, with RATE_LIMITED in place of the items that are more than the caller may run."""
    wanted = sum(isinstance(entry, flow.Item) for _, entry in entries)
    left = await limiter.spend_most(scope, wanted)
    return _cut(entries, left) if left < wanted else entries


def _cut(entries: list[flow.Entry], left: int) -> Iterator[flow.Entry]:
    refusal = errors.ApiError("RATE_LIMITED", "more executions than the caller's quota allows")
    for number, entry in entries:
        if isinstance(entry, flow.Item):
            left -= 1
        yield number, refusal if isinstance(entry, flow.Item) and left < 0 else entry


def _entries(
    lines: Iterable[tuple[int, bytes | ndjson.TooLong]], bytes_max: int
) -> Iterator[flow.Entry]:
    """The items of *lines*; an error for a line that has none."""
    # One by one: to decode all lines of a piece at once would save 15 ns each, and tell nothing of
    # the one that is wrong.
    for number, line in lines:
        try:
            if isinstance(line, ndjson.TooLong):
                raise bodies.too_large("the line", bytes_max)
            yield number, _decoded(line)
        except errors.ApiError as error:
            detail = error.detail.replace("the body", "the line", 1)
            yield number, errors.ApiError(error.code, f"line {number}: {detail}")


def _decoded(line: bytes) -> flow.Item:
    try:
        return _item.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bodies.decode(line, _item)


async def _give_lines(run: _Run, send: Send) -> None:
    await send(_start(NDJSON))
    try:
        async for lines in run.flow.results():
            await send(_body(lines, more=True))
    except Unread:
        # Perhaps it wants to write all before it reads: it waits for us, and we for it. So that it
        # comes to the line that says so, the rest of what it writes is taken, and dropped.
        run.flow.close()
        idle_s = run.settings.batch_idle_s
        run.problem = Problem(
            code="RESULTS_UNREAD", message=f"no result was read for {idle_s} s; the rest is dropped"
        )
        await run.flow.ended()
    last = LastLine(summary=run.summary(), problem=run.problem)
    await send(_body(_encoder.encode_lines([last]), more=False))


def _events(results: list[flow.Result]) -> bytes:
    """*results* as Server-Sent Events."""
    return b"".join([events.event("result", each) for each in results])


async def _give_events(run: _Run, send: Send) -> None:
    """Results as they come; the last event has the summary."""
    await send({"type": "http.response.start", "status": 200, "headers": [*events.HEADERS]})
    keeping = asyncio.create_task(events.keep_alive(send))
    try:
        async for results in run.flow.results():
            await send(_body(results, more=True))
    finally:
        await ending.end(keeping)
    last = LastLine(summary=run.summary(), problem=run.problem)
    await send(_body(events.event("summary", last), more=False))


def _start(media_type: str, length: int | None = None) -> Message:
    headers = [(b"content-type", media_type.encode())]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _body(part: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": more}


routes = [Route("/batch/execute", execute_batch, methods=["POST"])]
