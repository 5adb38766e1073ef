"""Items in, results out: a batch on its way, however long, with a bounded part of it in memory.

Items travel in parts of up to 256, each one message on the bus, so that an item costs its check,
its id and its result, and no task, future or timer. Whoever brings them is held up while as many
are on their way as may be, and on their way they are until their results are written: so a slow
reader of results holds up the writer of items.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final

import msgspec

from loopai import errors, views
from loopai.catalog import schemas
from loopai.ingress import dispatch, execute
from streams import publisher, topology
from streams.messages import ExecuteItem, ExecutionError, ExecutionRecord, RoutingKey, TaskHead

CONCURRENCY: Final = 2_048
"""Items of one batch on their way at once: eight full messages, enough to keep the bus busy."""
PARTS: Final = 8
"""What `max_concurrency` is divided into, so that several workers share it."""
WINDOW_BYTES: Final = 16 * topology.MIB
"""Inputs on their way and results that wait for their reader, of one batch; or a single part."""
RESULT_BYTES: Final = 1024
"""What a result is thought to take before any has come."""
TURN_S: Final = 0.005
"""How long items are refused, which may take ms each, before other requests have their turn."""
RETRY_S: Final = (0.05, 1.0)
"""First and longest wait until a part that the full bus refused is sent again."""

if CONCURRENCY // PARTS != topology.ITEMS_MAX:
    raise topology.TopologyError("a batch with the default concurrency must fill its messages")


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    input: msgspec.Raw
    id: str | None = None
    force_validation: bool = False
    routing_key: RoutingKey | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one item."""

    id: str
    """The caller's id of the item, or its number."""
    execution_id: str | None
    status: str
    output: msgspec.Raw = msgspec.field(default_factory=lambda: views.NULL)
    error_message: str | None = None
    error: ExecutionError | None = None
    version: int | None = None
    latency_ms: float | None = None
    sampled_for_validation: bool = False


Entry = tuple[int, Item | errors.ApiError]
"""An item with its number in the batch, or why it is none."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch is to be run."""

    task: TaskHead
    version: int | None
    timeout_ms: int
    """Of each item, from when it is sent."""
    trace_id: str
    place: Callable[[int], str]
    """What errors call the input of an item, by its number."""
    encode: Callable[[list[Result]], bytes]
    max_concurrency: int = CONCURRENCY
    stop_on_first_error: bool = False
    ordered: bool = True
    patient: bool = False
    """A full bus is waited for until the timeout, not reported at once."""


class _Part:
    """Consecutive items of a batch: some to be sent, in one message, and some refused."""

    __slots__ = (
        "attempts",
        "cost",
        "flags",
        "inputs",
        "items",
        "keys",
        "names",
        "retry",
        "sent",
        "slots",
    )

    def __init__(self) -> None:
        self.slots: list[Result | None] = []
        """One for each item, in order; None for those that are sent."""
        self.names: list[str] = []
        """Of those, as are `inputs`, `flags`, `keys` and `items`."""
        self.inputs: list[bytes] = []
        self.flags: list[bool] = []
        self.keys: list[str | None] = []
        self.items: tuple[ExecuteItem, ...] = ()
        self.sent: dispatch.Chunk | None = None
        self.retry: asyncio.TimerHandle | None = None
        self.attempts = 0
        self.cost = 0
        """Bytes that it takes, of WINDOW_BYTES."""

    def results(self) -> list[Result]:
        """One for each item, in order, once it is known what became of them."""
        sent = iter(self._sent())
        return [next(sent) if slot is None else slot for slot in self.slots]

    def _sent(self) -> Iterator[Result]:
        if self.sent is None:
            return (_cancelled(name) for name in self.names)
        chunk, find = self.sent, self.sent.records.get
        return (
            _missing(name, item, chunk) if (record := find(item.id)) is None else _of(name, record)
            for name, item in zip(self.names, self.items, strict=True)
        )


class Flow:
    """Send items with `take`, then `end`; read their results with `results`; `close` it.

    Reading and sending go on at the same time, each in a task. `total` and `succeeded` count the
    results that there are.
    """

    def __init__(self, dispatcher: dispatch.Dispatcher, terms: Terms) -> None:
        self._dispatcher = dispatcher
        self._terms = terms
        self._check = schemas.compiled(bytes(terms.task.input_schema)).check
        self._part_items = max(1, terms.max_concurrency // PARTS)
        self._parts: dict[_Part, bytes | None] = {}
        """Those on their way, in order, with their results where they wait for earlier ones."""
        self._over: deque[tuple[_Part, bytes]] = deque()
        """Those whose results may be read."""
        self._on_way = 0
        self._bytes = 0
        self._result_bytes = RESULT_BYTES
        self._changed = asyncio.Event()
        self._freed = asyncio.Event()
        self._stopped = False
        self._ended = asyncio.Event()
        self._closed = False
        self.total = 0
        self.succeeded = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._on_way

    async def take(self, entries: Iterable[Entry]) -> None:
        """Send *entries* as there is room for them; what is no item is answered all the same."""
        for group in self._cut(entries):
            part = await self._checked(group)
            while not self._closed and not self._has_room(part):
                self._freed.clear()
                await self._freed.wait()
            if self._closed:
                return
            self._send(part)
            # A part takes about a millisecond; then everybody else has a turn.
            await asyncio.sleep(0)

    def end(self) -> None:
        """Nothing more will be taken."""
        self._ended.set()
        self._changed.set()

    async def ended(self) -> None:
        """Wait until nothing more is to be taken."""
        await self._ended.wait()

    async def results(self) -> AsyncIterator[bytes]:
        """Results of one part after the other, encoded; those that are read make room."""
        while True:
            while self._over:
                part, encoded = self._over.popleft()
                yield encoded
                self._on_way -= len(part.slots)
                self._bytes -= part.cost
                self._freed.set()
            if self._ended.is_set() and not self._parts:
                return
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Nobody waits for what is still on its way, and what else comes is dropped.

        What is on the bus is run and recorded all the same.
        """
        for part in self._parts:
            if part.retry is not None:
                part.retry.cancel()
            if part.sent is not None:
                part.sent.forget()
        self._parts.clear()
        self._on_way = 0
        self._closed = True
        self._freed.set()

    def _cut(self, entries: Iterable[Entry]) -> Iterator[list[Entry]]:
        """Groups of *entries*, each of the size of a message at most, or a single one."""
        group: list[Entry] = []
        size = 0
        for entry in entries:
            item = entry[1]
            weight = publisher.ITEM_OVERHEAD_BYTES
            if isinstance(item, Item):
                weight += len(item.input) + len(item.routing_key or "")
            full = len(group) == self._part_items or size + weight > topology.BATCH_BYTES_MAX
            if group and full:
                yield group
                group, size = [], 0
            group.append(entry)
            size += weight
        if group:
            yield group

    async def _checked(self, group: list[Entry]) -> _Part:
        part = _Part()
        stopped = self._stopped
        turn_ends = time.perf_counter() + TURN_S
        for number, item in group:
            if isinstance(item, Item):
                name = str(number) if item.id is None else item.id
                flag, key = item.force_validation, item.routing_key
                found = b"" if stopped else self._input(number, item)
            else:
                name, flag, key, found = str(number), False, None, item
            if stopped:
                part.slots.append(_cancelled(name))
            elif isinstance(found, bytes):
                part.slots.append(None)
                part.names.append(name)
                part.inputs.append(found)
                part.flags.append(flag)
                part.keys.append(key)
            else:
                part.slots.append(_failed(name, "rejected", found))
                stopped = self._terms.stop_on_first_error
                if time.perf_counter() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = time.perf_counter() + TURN_S
        return part

    def _input(self, number: int, item: Item) -> bytes | errors.ApiError:
        """The input of *item*, or why it is none for the task."""
        encoded = bytes(item.input)
        if len(encoded) > execute.INPUT_BYTES_MAX:
            return self._refusal(number, item)
        try:
            self._check(encoded)
        except schemas.Invalid:
            return self._refusal(number, item)
        return encoded

    def _refusal(self, number: int, item: Item) -> bytes | errors.ApiError:
        # Checked once more, with the place that is told: only those refused pay for its name.
        try:
            return execute.checked_input(self._terms.task, item.input, self._terms.place(number))
        except errors.ApiError as error:
            return error

    def _has_room(self, part: _Part) -> bool:
        part.cost = sum(map(len, part.inputs)) + len(part.slots) * self._result_bytes
        return not self._on_way or (
            self._on_way + len(part.slots) <= self._terms.max_concurrency
            and self._bytes + part.cost <= WINDOW_BYTES
        )

    def _send(self, part: _Part) -> None:
        self._parts[part] = None
        self._on_way += len(part.slots)
        self._bytes += part.cost
        if not part.names or self._stopped:
            self._finish(part)
            return
        terms = self._terms
        part.items = dispatch.items(
            part.inputs,
            part.flags,
            part.keys,
            version=terms.version,
            timeout_ms=terms.timeout_ms,
            trace_id=terms.trace_id,
        )
        part.inputs = []
        # What was refused among them stops only what comes after it.
        self._stopped = terms.stop_on_first_error and len(part.names) < len(part.slots)
        self._publish(part)

    def _publish(self, part: _Part) -> None:
        part.sent = self._dispatcher.begin_chunk(
            self._terms.task, part.items, "bulk", functools.partial(self._told, part)
        )

    def _told(self, part: _Part) -> None:
        """The bus, or the clock, says what became of *part*."""
        chunk = part.sent
        if chunk is not None and isinstance(chunk.failure, publisher.BacklogFull):
            first_s, longest_s = RETRY_S
            wait_s = min(first_s * 2**part.attempts, longest_s)
            left_s = part.items[0].deadline_ms / 1000 - time.time()
            if self._terms.patient and wait_s < left_s and not self._stopped:
                part.attempts += 1
                part.retry = asyncio.get_running_loop().call_later(wait_s, self._publish, part)
                return
        self._finish(part)

    def _finish(self, part: _Part) -> None:
        """Encode the results of *part*, and let go of the rest of it."""
        results = part.results()
        succeeded = sum(result.status == "success" for result in results)
        self.total += len(results)
        self.succeeded += succeeded
        if succeeded < len(results) and self._terms.stop_on_first_error:
            self._stopped = True
        encoded = self._terms.encode(results)
        part.sent, part.items, part.inputs = None, (), []
        self._result_bytes = (self._result_bytes + len(encoded) // len(results)) // 2
        self._bytes += len(encoded) - part.cost
        part.cost = len(encoded)
        if self._terms.ordered:
            self._parts[part] = encoded
            self._release()
        else:
            del self._parts[part]
            self._over.append((part, encoded))
        self._changed.set()

    def _release(self) -> None:
        """Those that no earlier one is missing of may be read."""
        while self._parts:
            part, encoded = next(iter(self._parts.items()))
            if encoded is None:
                return
            del self._parts[part]
            self._over.append((part, encoded))


def _of(name: str, record: ExecutionRecord) -> Result:
    error = record.error
    return Result(
        id=name,
        execution_id=record.id,
        status=record.status,
        output=views.NULL if record.output is None else msgspec.Raw(record.output),
        error_message=None if error is None else error.message,
        error=error,
        version=record.version,
        latency_ms=record.latency_ms.total,
        sampled_for_validation=record.sampled_for_validation,
    )


def _missing(name: str, item: ExecuteItem, chunk: dispatch.Chunk) -> Result:
    error = chunk.error(item)
    status = "timeout" if error.code == "DEADLINE_PASSED" else "rejected"
    return _failed(name, status, error, item.id)


def _failed(
    name: str, status: str, error: errors.ApiError, execution_id: str | None = None
) -> Result:
    return Result(
        id=name,
        execution_id=execution_id,
        status=status,
        error_message=error.detail,
        error=ExecutionError(type=error.code, message=error.detail),
    )


def _cancelled(name: str) -> Result:
    message = "an earlier item failed"
    return Result(
        id=name,
        execution_id=None,
        status="cancelled",
        error_message=message,
        error=ExecutionError(type="CANCELLED", message=message),
    )
