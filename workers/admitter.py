"""Answers whether a program may become a version, by loading it and trying it in a cell.

Request and reply without a stream: nothing is accepted before the answer, so nothing must last.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from loopai.catalog.stores import store as stores
from loopai.sandbox import admission, pool, program
from streams import codec, ending
from streams.connection import Connection
from streams.messages import AdmitAnswer, AdmitRequest
from workers import runtime

log = structlog.get_logger()

AT_ONCE: Final = 2
"""Programs that one worker tries at a time: executions go on beside them."""
WAITING_MAX: Final = 64
"""Requests that wait for their turn; more are told that this worker is busy."""


class Admitter:
    """Listens on *asked*, as one of the workers of *queue*, while `opened`."""

    def __init__(
        self, connection: Connection, cells: pool.CellPool, asked: Sequence[str], *, queue: str
    ) -> None:
        self._connection = connection
        self._cells = cells
        self._asked = asked
        self._queue = queue
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._listening: list[Subscription] = []
        self._active: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Answer while inside; on the way out what was begun ends, or is told to ask again."""
        self._listening = [
            await self._connection.client.subscribe(subject, queue=self._queue, cb=self._take)
            for subject in self._asked
        ]
        # Who sees this worker may ask it. A broker that is away hears of it at the reconnect.
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await self._connection.client.flush()
        try:
            yield
        finally:
            # A worker that stops has done so already, beside its deliveries.
            await self.drain(runtime.DRAIN_S)

    async def drain(self, within_s: float) -> None:
        """Take on nothing more. What was begun ends in *within_s*, or is told to ask again."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + within_s
        listening, self._listening = self._listening, []
        if self._connection.client.is_connected:
            # Not merely unsubscribed: what has been sent to us is sent to nobody else.
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                async with asyncio.timeout_at(ends):
                    for each in listening:
                        await each.drain()  # type: ignore[no-untyped-call]  # has no types
        if self._active:
            _, late = await asyncio.wait(self._active, timeout=max(0.0, ends - loop.time()))
            await ending.end(*late)

    async def _take(self, message: Msg) -> None:
        if len(self._active) >= AT_ONCE + WAITING_MAX:
            await self._tell(message, AdmitAnswer(status="busy", reason="too many wait already"))
            return
        task = asyncio.create_task(self._answer(message))
        self._active.add(task)
        task.add_done_callback(self._active.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            request = codec.ADMIT_REQUEST.decode(message.data)
            async with self._turn:
                answer = await self._admit(request)
        except asyncio.CancelledError:
            await asyncio.shield(
                self._tell(message, AdmitAnswer(status="busy", reason="the worker stops"))
            )
            raise
        except Exception as error:
            log.exception("admission failed")
            answer = AdmitAnswer(status="failed", reason=f"{type(error).__name__}: {error}")
        if answer is not None:
            await self._tell(message, answer)

    async def _admit(self, request: AdmitRequest) -> AdmitAnswer | None:
        """None where nobody waits any more."""
        left_s = request.deadline_ms / 1000 - time.time()
        if left_s <= 0:
            return None
        tried = program.Program(
            tenant=request.tenant,
            digest=stores.digest(request.code),
            code=request.code,
            language=request.language,
        )
        try:
            async with asyncio.timeout(left_s):
                found = await admission.admit(
                    self._cells, tried, request.inputs, wanted=request.isolation
                )
        except TimeoutError:
            return None
        except program.LoadError as error:
            log.info(
                "program refused",
                language=request.language,
                reason=str(error)[:200],
                trace_id=request.trace_id,
            )
            return AdmitAnswer(status="refused", reason=str(error), line=error.line)
        log.info(
            "program admitted",
            language=request.language,
            isolation=found.isolation,
            trace_id=request.trace_id,
        )
        return AdmitAnswer(
            status="admitted",
            reason=found.reason,
            isolation=found.isolation,
            stateful=found.stateful,
            latency_ms=found.latency_ms,
        )

    async def _tell(self, message: Msg, answer: AdmitAnswer) -> None:
        if message.reply:
            await self._connection.client.publish(message.reply, codec.ADMIT_ANSWER.encode(answer))
