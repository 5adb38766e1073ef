"""Executions with an idempotency key: however often they are asked for, they run once (ADR 0022).

A claim by compare-and-set gives the key its execution id, and the id makes the message: whoever
finds the claim and no trace of the execution sends it again under the same id, which the stream
takes once. So nobody has to know whether another ingress is dead or slow.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec
import nats.errors

from loopai import errors
from loopai.ingress import dispatch, idempotency
from streams import ids, replay, store, subjects, topology
from streams.connection import Connection
from streams.messages import (
    DeadLetter,
    ExecuteItem,
    ExecutionRecord,
    IdempotencyClaim,
    TaskHead,
)

ATTEMPTS: Final = 5
"""At a claim that others change meanwhile; each change is one that got on with it."""

Ended: TypeAlias = ExecutionRecord | DeadLetter
Make: TypeAlias = Callable[[], Awaitable[tuple[TaskHead, ExecuteItem]]]
"""What a request asks for, checked; called only where it has to be sent."""

if topology.EXECUTE.duplicate_window_s < 2 * dispatch.FRESH_S:
    raise topology.TopologyError("whoever sends an id again must be sure that it is stored once")


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that is on the bus, or has ended."""

    claim: IdempotencyClaim
    ended: asyncio.Future[Ended]
    """Shared by all who wait: shield it. Fails with DEADLINE_PASSED."""
    replayed: bool
    """It was asked for before."""


class Once:
    """The executions of one ingress process that have a key. Closed by its maker."""

    def __init__(
        self,
        connection: Connection,
        claims: store.Bucket[IdempotencyClaim],
        dispatcher: dispatch.Dispatcher,
    ) -> None:
        self._connection = connection
        self._claims = claims
        self._dispatcher = dispatcher
        self._turns = idempotency.Turns()
        self._running: dict[str, Running] = {}

    def close(self) -> None:
        for running in list(self._running.values()):
            running.ended.cancel()

    async def begin(self, keyed: idempotency.Keyed, make: Make) -> Running:
        """The execution of *keyed*, which is sent unless it was before.

        IDEMPOTENCY_KEY_REUSED, ANSWER_NOT_KEPT, what *make* raises, and what sending does.
        """
        async with self._turns.turn(keyed.name):
            for _ in range(ATTEMPTS):
                known = self._running.get(keyed.name)
                if known is not None:
                    keyed.require_same(known.claim)
                    return msgspec.structs.replace(known, replayed=True)
                with contextlib.suppress(store.Conflict):
                    return await self._claimed(keyed, make)
            raise errors.ApiError("CONFLICT", "others kept changing the claim of this key")

    async def _claimed(self, keyed: idempotency.Keyed, make: Make) -> Running:
        """Claim the key and send, or attach to what its claim stands for. store.Conflict."""
        entry = await self._claims.get(keyed.name)
        if entry is None:
            # Before the claim: it would stand for something that was never sent.
            self._dispatcher.require_room()
            task, item = await make()
            claim = _claim(keyed, task, item)
            await self._claims.create(keyed.name, claim)
            return await self._send(keyed.name, claim, task, item)
        claim = entry.value
        keyed.require_same(claim)
        found = await self._find(claim)
        if found == "queued":
            return self._noted(keyed.name, claim, self._follow(claim), replayed=True)
        if found is not None:
            ended = asyncio.get_running_loop().create_future()
            ended.set_result(found)
            return Running(claim=claim, ended=ended, replayed=True)
        if dispatch.is_fresh(claim.execution_id):
            task, item = await make()
            item = msgspec.structs.replace(item, id=claim.execution_id)
        else:
            # Where an id is looked for depends on its time: a new one takes its place.
            _require_given_up(claim)
            await self._require_remembered(claim)
            task, item = await make()
            claim = _claim(keyed, task, item)
            await self._claims.update(keyed.name, claim, entry.revision)
        return await self._send(keyed.name, claim, task, item)

    async def _send(
        self, name: str, claim: IdempotencyClaim, task: TaskHead, item: ExecuteItem
    ) -> Running:
        answered = await self._dispatcher.begin_alone(task, item, "interactive")
        # None: somebody else sent it first, and is answered.
        ends = self._follow(claim) if answered is None else answered
        return self._noted(name, claim, ends, replayed=answered is None)

    def _noted(
        self, name: str, claim: IdempotencyClaim, ends: Awaitable[Ended], *, replayed: bool
    ) -> Running:
        """Those who come while *ends* is awaited find it."""
        ended = asyncio.ensure_future(ends)
        running = self._running[name] = Running(claim=claim, ended=ended, replayed=replayed)

        def forget(future: asyncio.Future[Ended]) -> None:
            del self._running[name]
            if not future.cancelled():
                future.exception()  # whoever waits has it, too

        ended.add_done_callback(forget)
        return running

    async def _find(self, claim: IdempotencyClaim) -> Ended | Literal["queued"] | None:
        """What has become of the execution; None where there is no trace of it."""
        for again in (True, False):
            recorded = await replay.recorded(
                self._connection,
                tenant=claim.tenant,
                task=claim.task,
                wanted={claim.execution_id},
            )
            if recorded:
                return recorded[claim.execution_id]
            if again and await replay.is_queued(
                self._connection, tenant=claim.tenant, execution_id=claim.execution_id
            ):
                return "queued"
        return await replay.dead(
            self._connection, tenant=claim.tenant, execution_id=claim.execution_id
        )

    async def _follow(self, claim: IdempotencyClaim) -> Ended:
        """What the execution comes to, whose answer goes to another ingress. DEADLINE_PASSED."""
        minted = ids.minted_at(claim.execution_id)
        left_s = minted.timestamp() + claim.timeout_ms / 1000 + dispatch.GRACE_S - time.time()
        reading = replay.records(
            self._connection,
            tenant=claim.tenant,
            task=claim.task,
            since=minted - replay.CLOCK_SKEW,
            follow=True,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left_s)), contextlib.aclosing(reading) as records:
                async for record in records:
                    if record.id == claim.execution_id:
                        return record
        letter = await replay.dead(
            self._connection, tenant=claim.tenant, execution_id=claim.execution_id
        )
        if letter is None:
            raise dispatch.late(claim.execution_id)
        return letter

    async def _require_remembered(self, claim: IdempotencyClaim) -> None:
        """ANSWER_NOT_KEPT: RECORDS, when full, has dropped what is as old as *claim*."""
        try:
            info = await self._connection.jetstream.stream_info(topology.RECORDS.name)
        except (nats.errors.Error, TimeoutError) as error:
            raise store.StoreUnavailable(f"{topology.RECORDS.name}: {error}") from error
        if info.state.first_seq <= 1:
            return
        reading = replay.read(self._connection, topology.RECORDS.name, subjects.RECORD_ALL)
        async with contextlib.aclosing(reading) as oldest:
            async for message in oldest:
                if message.time < ids.minted_at(claim.execution_id):
                    return
                break
        raise errors.ApiError(
            "ANSWER_NOT_KEPT",
            "the request with this key was accepted, and its record is not kept any more",
            execution_id=claim.execution_id,
        )


def _require_given_up(claim: IdempotencyClaim) -> None:
    """UNAVAILABLE: the execution of *claim* may still reach the bus, and be run.

    An ingress that lost the broker sends what it has in hand when it is back. What is past its
    deadline then is not run: that is so long after the last moment at which it was fresh.
    """
    minted_s = ids.minted_ms(claim.execution_id) / 1000
    skew_s = replay.CLOCK_SKEW.total_seconds()
    left_s = minted_s + dispatch.FRESH_S + claim.timeout_ms / 1000 + skew_s - time.time()
    if left_s > 0:
        raise errors.ApiError(
            "UNAVAILABLE",
            "the first request with this key may still reach the bus; try again later",
            retry_after_s=int(left_s) + 1,
            execution_id=claim.execution_id,
        )


def _claim(keyed: idempotency.Keyed, task: TaskHead, item: ExecuteItem) -> IdempotencyClaim:
    minted_ms = ids.minted_ms(item.id)
    return IdempotencyClaim(
        fingerprint=keyed.fingerprint,
        tenant=task.tenant,
        task=task.name,
        task_id=task.id,
        execution_id=item.id,
        timeout_ms=item.deadline_ms - minted_ms,
        claimed_at=datetime.fromtimestamp(minted_ms / 1000, UTC),
    )
