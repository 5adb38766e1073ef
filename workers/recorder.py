"""The recorder pool: nothing exhausts its deliveries unseen.

The broker leaves a message that was delivered too often in its stream and says so in an advisory.
The advisories are a work queue themselves (ADVISORIES); this pool moves each such message to DEAD.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
import structlog

from loopai import errors
from streams import replay, topology
from streams.connection import Connection
from streams.consumer import Delivery
from workers import dead, runtime, slots

log = structlog.get_logger()

NAME: Final = "recorder"
SLOTS: Final = 8
HANDLE_S_MAX: Final = 60.0


class Advisory(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that we need of NATS' consumer advisories."""

    type: str
    stream: str
    consumer: str
    stream_seq: int
    deliveries: int


_decoder = msgspec.json.Decoder(Advisory)


@contextlib.asynccontextmanager
async def opened(host: runtime.Host) -> AsyncIterator[runtime.Pool]:
    """The pool; it needs the bus only."""
    recorder = Recorder(host.connection)
    yield runtime.Pool(
        name=NAME,
        sources=(runtime.Source(spec=topology.RECORDER, prefetch=SLOTS),),
        limits=slots.Limits(slots=SLOTS),
        handle=recorder.handle,
        handle_s_max=HANDLE_S_MAX,
    )


class Recorder:
    """Handles advisories about messages that were given up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def handle(self, delivery: Delivery) -> None:
        try:
            advisory = _decoder.decode(delivery.payload)
        except msgspec.DecodeError as error:
            raise errors.Rejected(f"advisory: {error}") from error
        message = await self._message(advisory)
        if message is None:
            return  # terminated by a worker, which had moved it to DEAD before
        await dead.store(
            self._connection,
            message,
            stream=advisory.stream,
            reason="max_deliveries",
            detail=f"{advisory.consumer} gave up after {advisory.deliveries} deliveries",
            deliveries=advisory.deliveries,
        )
        try:
            await self._connection.jetstream.delete_msg(advisory.stream, advisory.stream_seq)
        except nats.js.errors.NotFoundError:
            return
        except (nats.errors.Error, TimeoutError) as error:
            raise errors.Transient(
                f"{advisory.stream} keeps {advisory.stream_seq}: {error}"
            ) from error

    async def _message(self, advisory: Advisory) -> replay.Stored | None:
        """The message that *advisory* is about, if it is still in its stream."""
        reading = replay.read(self._connection, advisory.stream, ">", sequence=advisory.stream_seq)
        async with contextlib.aclosing(reading) as messages:
            async for stored in messages:
                return stored if stored.sequence == advisory.stream_seq else None
        return None
