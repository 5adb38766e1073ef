"""NATS' service API (its ADR-32): a service that others can find, and that says how it does.

nats-py has one, in `nats.micro`; its documents are used here. But it handles one request of an
endpoint at a time, and when it is stopped it drops those that it has received.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro import request, service

from streams import subjects
from streams.connection import Connection

ERROR: Final = request.ERROR_HEADER
ERROR_CODE: Final = request.ERROR_CODE_HEADER

Documents = dict[service.ServiceVerb, Callable[[], bytes]]


class Endpoint:
    """One subject of a service, which those of *queue* share, with what has been counted of it."""

    def __init__(self, name: str, subject: str, *, queue: str) -> None:
        self.name = name
        self.subject = subject
        self.queue = queue
        self._requests = 0
        self._errors = 0
        self._time_ns = 0
        self._last_error = ""

    def count(self, started_ns: int, error: str | None) -> None:
        """One request has ended that began at *started_ns* of `time.perf_counter_ns`."""
        self._requests += 1
        self._time_ns += time.perf_counter_ns() - started_ns
        if error is not None:
            self._errors += 1
            self._last_error = error

    def info(self) -> service.EndpointInfo:
        return service.EndpointInfo(self.name, self.subject, self.queue)

    def stats(self) -> service.EndpointStats:
        return service.EndpointStats(
            name=self.name,
            subject=self.subject,
            queue_group=self.queue,
            num_requests=self._requests,
            num_errors=self._errors,
            processing_time=self._time_ns,
            average_processing_time=self._time_ns // max(self._requests, 1),
            last_error=self._last_error,
        )


class Service:
    """An instance of the service *name* with one endpoint, whose requests *take* is given."""

    def __init__(
        self,
        connection: Connection,
        endpoint: Endpoint,
        take: Callable[[Msg], Awaitable[None]],
        *,
        name: str,
        version: str,
        description: str,
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._take = take
        self._name = name
        self._version = version
        self._description = description
        self._id = secrets.token_hex(8)
        self._started = datetime.now(UTC)
        self._listening: Subscription | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Be found and take requests while inside; `close` it before, where there is time for it.

        *take* is called for one request after the other, so it should only begin on each.
        """
        found = [
            await self._connection.client.subscribe(subject, cb=self._answers(verb))
            for verb in service.ServiceVerb
            for subject in self._subjects(verb)
        ]
        self._listening = await self._connection.client.subscribe(
            self._endpoint.subject,
            queue=self._endpoint.queue,
            cb=self._take,
            pending_msgs_limit=0,
            pending_bytes_limit=0,
        )
        # Who finds this instance may ask it. A broker that is away hears of it at the reconnect.
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await self._connection.client.flush()
        try:
            yield
        finally:
            for each in [*found, *([self._listening] if self._listening else [])]:
                with contextlib.suppress(nats.errors.Error):  # the connection has ended before
                    await each.unsubscribe()

    async def close(self, within_s: float) -> None:
        """Take no more requests: what the broker has sent here is given to *take* first.

        Not merely unsubscribed: what has been sent to us is sent to nobody else.
        """
        listening, self._listening = self._listening, None
        if listening is not None and self._connection.client.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                async with asyncio.timeout(within_s):
                    await listening.drain()  # type: ignore[no-untyped-call]  # has no types

    def _subjects(self, verb: service.ServiceVerb) -> tuple[str, str, str]:
        return (
            service.control_subject(verb),
            service.control_subject(verb, self._name),
            service.control_subject(verb, self._name, self._id),
        )

    def _answers(self, verb: service.ServiceVerb) -> Callable[[Msg], Awaitable[None]]:
        async def asked(message: Msg) -> None:
            # Whoever asks chooses the subject: nothing of ours or of the broker is written there.
            if subjects.is_answerable(message.reply, tenant=""):
                document = json.dumps(self._document(verb)).encode()
                with contextlib.suppress(nats.errors.Error):  # who asked may ask again
                    await message.respond(document)

        return asked

    def _document(self, verb: service.ServiceVerb) -> dict[str, object]:
        name, version, metadata = self._name, self._version, dict[str, str]()
        if verb is service.ServiceVerb.PING:
            return service.ServicePing(self._id, name, version, metadata).to_dict()
        if verb is service.ServiceVerb.INFO:
            endpoints = [self._endpoint.info()]
            return service.ServiceInfo(
                name, self._id, version, self._description, endpoints, metadata
            ).to_dict()
        return service.ServiceStats(
            self._id, name, version, self._started, [self._endpoint.stats()], metadata
        ).to_dict()
