"""Execution events: what monitors show, summed up per task a few times a second."""

import asyncio
import collections
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import nats.errors
import structlog

from streams import codec, ending, subjects
from streams.connection import Connection
from streams.messages import Event, ExecutionRecord

log = structlog.get_logger()

EVERY_S: Final = 0.1
"""As often as a person can follow. An event a batch was a fifth of what a batch cost the bus."""

_encode_json = msgspec.json.Encoder().encode


class _Sum:
    """Of the executions of one task since the last event."""

    def __init__(self) -> None:
        self.count = 0
        self.statuses: collections.Counter[str] = collections.Counter()
        self.latency_ms = 0.0
        self.last: ExecutionRecord | None = None

    def add(self, records: Sequence[ExecutionRecord]) -> None:
        self.count += len(records)
        self.statuses.update([each.status for each in records])
        self.latency_ms = max(self.latency_ms, *[each.latency_ms.total for each in records])
        self.last = records[-1]


class Events:
    """Shows records as events. Whoever made it closes it; what a killed worker had is not shown."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sums: dict[tuple[str, str], _Sum] = {}
        self._sending: asyncio.Task[None] | None = None

    def show(self, records: Sequence[ExecutionRecord]) -> None:
        """Count *records*, all of one task; at most `EVERY_S` later an event tells of them."""
        key = (records[0].tenant, records[0].task)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum()
        found.add(records)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_soon())

    async def close(self) -> None:
        """Send what is left."""
        if self._sending is not None:
            await ending.end(self._sending)
        await self._send()

    async def _send_soon(self) -> None:
        while self._sums:
            await asyncio.sleep(EVERY_S)
            await self._send()
        self._sending = None

    async def _send(self) -> None:
        sums, self._sums = self._sums, {}
        for (tenant, task), each in sums.items():
            event = _event(tenant, task, each)
            try:
                # For watching, not for the audit: nobody waits for the broker to store it.
                await self._connection.client.publish(
                    subjects.event("execution", tenant, task), codec.EVENT.encode(event)
                )
            except nats.errors.Error as error:
                log.warning("event not sent", tenant=tenant, task=task, reason=str(error))


def _event(tenant: str, task: str, found: _Sum) -> Event:
    last = found.last
    return Event(
        kind="execution",
        task=task,
        tenant=tenant,
        time=datetime.now(UTC),
        data=_encode_json(
            {
                "count": found.count,
                "statuses": found.statuses,
                "version": last.version if last else None,
                "last_execution_id": last.id if last else None,
                "latency_ms": round(found.latency_ms, 3),
                "worker": last.worker if last else "",
            }
        ),
    )
