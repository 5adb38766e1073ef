"""The gateway pool: calls as NATS' service API has them, as durable as those over HTTP.

A call is published to EXECUTE, and answered with what RECORDS has of it: audit before answer.
"""

import asyncio
import contextlib
import importlib.metadata
import secrets
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg

from loopai import errors, views
from loopai.catalog import catalog, mirror
from loopai.catalog.stores import nothing
from loopai.ingress import bodies, dispatch, problems, queues
from loopai.observe.metrics import DispatchMetrics
from loopai.settings import Settings
from streams import codec, ending, subjects, topology
from streams.connection import Connection
from workers import calls, runtime, service, slots

log = structlog.get_logger()

NAME: Final = "gateway"
SERVICE: Final = "loopai"
VERSION: Final = importlib.metadata.version("loopai")
RETRY_AFTER: Final = "Retry-After"
"""Header of an error with the seconds after which to try again."""
REASON_CHARACTERS_MAX: Final = 200
"""Of the header that says what is wrong; the payload has all of it."""
CLOSE_S: Final = 2.0
"""Of a drain at most, to be given what the broker has sent here."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A services.Known."""

    settings: Settings
    catalog: catalog.Catalog


@contextlib.asynccontextmanager
async def opened(host: runtime.Host) -> AsyncIterator[runtime.Pool]:
    """The pool; it needs the bus only."""
    connection, settings = host.connection, host.settings
    async with contextlib.AsyncExitStack() as stack:
        workers = mirror.Mirror(connection, topology.WORKERS, codec.WORKER)
        stack.push_async_callback(workers.stop)
        await workers.start()
        known = catalog.Catalog(connection, nothing.Nothing())
        await stack.enter_async_context(known.opened())
        held = queues.Queues(connection, workers, tenant_backlog_max=settings.tenant_backlog_max)
        stack.push_async_callback(held.close)
        dispatcher = dispatch.Dispatcher(
            connection,
            subjects.reply(NAME, secrets.token_hex(8)),
            DispatchMetrics(host.registry),
            held,
            waiting_max=settings.waiting_max,
        )
        await dispatcher.start()
        stack.push_async_callback(dispatcher.close)
        gateway = Gateway(connection, Known(settings=settings, catalog=known), dispatcher)
        await stack.enter_async_context(gateway.opened())
        yield runtime.Pool(
            name=NAME,
            sources=(),
            limits=slots.Limits(slots=1),
            handle=_nothing,
            handle_s_max=1.0,
            drain=gateway.drain,
        )


async def _nothing(_delivery: object) -> None:
    """It has no deliveries."""


class Gateway:
    """Answers calls, as one of all gateways, while `opened`."""

    def __init__(
        self, connection: Connection, shared: Known, dispatcher: dispatch.Dispatcher
    ) -> None:
        self._connection = connection
        self._shared = shared
        self._dispatcher = dispatcher
        self._active: set[asyncio.Task[None]] = set()
        self._endpoint = service.Endpoint("call", subjects.CALL_ALL, queue=NAME)
        self._service = service.Service(
            connection,
            self._endpoint,
            self._take,
            name=SERVICE,
            version=VERSION,
            description="Runs the program of a task and answers with its recorded result.",
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with self._service.opened():
            try:
                yield
            finally:
                # A gateway that stops has done so already.
                await self.drain(runtime.DRAIN_S)

    async def drain(self, within_s: float) -> None:
        """Take on nothing more. Calls end in *within_s*, or are told what became of them."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + within_s
        await self._service.close(min(CLOSE_S, within_s))
        if self._active:
            _, late = await asyncio.wait(self._active, timeout=max(0.0, ends - loop.time()))
            await ending.end(*late)

    async def _take(self, message: Msg) -> None:
        started_ns = time.perf_counter_ns()
        try:
            tenant, _ = subjects.owner(message.subject)
        except ValueError:
            tenant = ""  # nobody's: what is wrong with it is told below
        if not subjects.is_answerable(message.reply, tenant):
            # Nobody could be told: who wants no answer publishes to EXECUTE.
            self._endpoint.count(started_ns, "no reply subject, or one that nobody may answer on")
            return
        if len(self._active) >= self._shared.settings.waiting_max:
            await self._refuse(message, started_ns, self._crowded(), calls.trace_id({}))
            return
        task = asyncio.create_task(self._answer(message, started_ns))
        self._active.add(task)
        task.add_done_callback(self._active.discard)

    async def _answer(self, message: Msg, started_ns: int) -> None:
        headers = message.headers or {}
        execution_id = None
        try:
            task, item = await calls.item(self._shared, message.subject, headers, message.data)
            execution_id = item.id
            record = await self._dispatcher.execute(task, item, "interactive")
        except asyncio.CancelledError:
            # Only a drain cancels.
            stopping = _stopping(execution_id)
            await asyncio.shield(
                self._refuse(message, started_ns, stopping, calls.trace_id(headers))
            )
            raise
        except Exception as error:
            translated = problems.translate(error)
            trace_id = calls.trace_id(headers)
            if translated.code == "INTERNAL":
                log.exception("unexpected error", trace_id=trace_id)
            await self._refuse(message, started_ns, translated, trace_id)
        else:
            answer = bodies.encode(views.execution(record))
            await self._tell(message, answer, {subjects.CONTENT_TYPE: codec.JSON_CONTENT_TYPE})
            self._endpoint.count(started_ns, None)

    async def _refuse(
        self, message: Msg, started_ns: int, error: errors.ApiError, trace_id: str
    ) -> None:
        reason = f"{error.code}: {error.detail}"
        headers = {
            service.ERROR: _header(reason),
            service.ERROR_CODE: str(error.status),
            subjects.CONTENT_TYPE: problems.CONTENT_TYPE,
        }
        retry_after_s = problems.retry_after_s(error)
        if retry_after_s is not None:
            headers[RETRY_AFTER] = str(retry_after_s)
        await self._tell(message, problems.document(error, trace_id), headers)
        self._endpoint.count(started_ns, reason)

    async def _tell(self, message: Msg, payload: bytes, headers: dict[str, str]) -> None:
        # Where the broker is away for long, nobody can be told; the record stands.
        with contextlib.suppress(nats.errors.Error):
            await self._connection.client.publish(message.reply, payload, headers=headers)

    def _crowded(self) -> errors.ApiError:
        most = self._shared.settings.waiting_max
        return errors.ApiError(
            "OVERLOADED",
            f"{most} calls are waited for here already; try again later",
            retry_after_s=1,
        )


def _stopping(execution_id: str | None) -> errors.ApiError:
    if execution_id is None:
        return errors.ApiError("UNAVAILABLE", "the gateway stops; nothing was run: call again")
    return errors.ApiError(
        "UNAVAILABLE",
        "the gateway stops before the result has come; it may still: "
        f"GET /api/v1/executions/{execution_id}",
        execution_id=execution_id,
    )


def _header(text: str) -> str:
    """*text* as a header can hold it: on one line, in ASCII."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode("ascii")
    return line[:REASON_CHARACTERS_MAX]
