"""Deliveries of a durable consumer: `async for` them, then ack, nak or term each."""

import functools
import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Self

from streams import pull, topology
from streams.connection import Connection

log = logging.getLogger(__name__)


class Delivery:
    """One message in a worker's hands, until it is acknowledged, given back or terminated."""

    def __init__(
        self,
        pulled: pull.Pulled,
        source: pull.Pull,
        connection: Connection,
        spec: topology.Consumer,
    ) -> None:
        message = pulled.message
        metadata = message.metadata
        self.subject = message.subject
        self.payload = message.data
        self.headers: dict[str, str] = message.headers or {}
        self.stream: str = metadata.stream
        self.sequence: int = metadata.sequence.stream
        self.attempt: int = metadata.num_delivered
        """1 on the first delivery."""
        self.is_last: bool = 0 < spec.max_deliver <= self.attempt
        """Whether the broker delivers it no more, whatever becomes of this delivery."""
        self.published_at: datetime = metadata.timestamp
        self._reply = message.reply
        self._connection = connection
        self._ack_wait_s = spec.ack_wait_s
        self._lease_ends = time.monotonic() + spec.ack_wait_s
        self._is_current = functools.partial(source.is_current, pulled)

    @property
    def leased(self) -> bool:
        """Whether it is still ours: past the ack wait the broker gives it to another worker.

        A worker that was stopped for a while must not record what another has redone (ADR 0003).
        """
        return time.monotonic() < self._lease_ends and self._is_current()

    async def ack(self) -> None:
        await self._connection.client.publish(self._reply, b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Give it back, to be redelivered after *delay_s* seconds. Too late, it says nothing."""
        # The broker would take it from whoever has it by now.
        if not self.leased:
            return
        await self._connection.client.publish(
            self._reply, b'-NAK {"delay": %d}' % int(delay_s * 1e9)
        )

    async def term(self, reason: str) -> None:
        """Never deliver it again. Move it to DEAD first. Too late, it says nothing."""
        if not self.leased:
            return
        line = " ".join(reason.split())[:200]
        await self._connection.client.publish(self._reply, b"+TERM " + line.encode())

    async def progress(self) -> None:
        """Say that work goes on: the ack wait starts again. Too late, it says nothing."""
        # A worker that was stopped must not take back what the broker has given to another, and
        # what is only written down for the time after a reconnect is heard by nobody now.
        if not self.leased or not self._connection.client.is_connected:
            return
        await self._connection.client.publish(self._reply, b"+WPI")
        self._lease_ends = time.monotonic() + self._ack_wait_s


class Consumer:
    """Deliveries of *spec*, at most *slots* unreleased at a time.

    Iterate until the task is cancelled; call `release` once for every delivery when its handling
    has ended, whatever the end. Use as an async context manager.
    """

    def __init__(self, connection: Connection, spec: topology.Consumer, *, slots: int) -> None:
        self._connection = connection
        self._spec = spec
        self._pull = pull.Pull(connection, spec.stream, spec.durable, slots=slots)
        self.release = self._pull.release

    async def __aenter__(self) -> Self:
        await self._pull.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # Nobody has begun on these: another worker can have them now rather than after ack_wait.
        for message in await self._pull.stop():
            await self._connection.client.publish(message.reply, b"-NAK")

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        while True:
            try:
                pulled = await self._pull.next()
            except pull.ConsumerGone:
                # A durable comes back: with the broker, or when the topology is applied again.
                log.warning("%s: no such consumer; still asking", self._spec.durable)
                continue
            delivery = Delivery(pulled, self._pull, self._connection, self._spec)
            if delivery.leased:
                yield delivery
            else:
                self.release()
