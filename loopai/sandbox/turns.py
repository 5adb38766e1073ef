"""The turns that calls of a cell take: one at a time, and what waits goes together in the next."""

import asyncio
import collections
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from loopai.sandbox import limits as limits_
from loopai.sandbox import outcome, recall, statistics
from streams import messages

TOGETHER_MS: Final = 2.0
"""How long a turn of several calls may be expected to take. They are answered together: the first
waits for the last. And where runs take longer, what a frame costs is not worth that."""
TOGETHER_S_MAX: Final = 1.0
"""A turn of several calls that takes so long is given up, and each of them served alone."""
_ITEM_OVERHEAD_BYTES: Final = 16
"""Nine bytes of a timeout and at most five before the input."""

Ended = tuple[list[outcome.Outcome], outcome.Outcome | None]
"""One Outcome for each input; and what to say of all further ones of these callers without trying
them: None unless no executor could be had."""
Serve = Callable[
    [Sequence[bytes], Sequence[float], recall.Recall | None, float | None], Awaitable[Ended]
]
"""The last is None, or after how many seconds it is given up: it raises Parted then, and for
whatever else an executor does not outlive."""


class Parted(Exception):  # noqa: N818 (it says what becomes of a turn)
    """Of several calls that went together one broke the turn: each is to be served alone."""


class Call:
    """Inputs of one caller that waits; all fit into a frame."""

    __slots__ = ("ended", "first", "inputs", "recalled", "size", "timeouts_ms")

    def __init__(
        self,
        inputs: Sequence[bytes],
        timeouts_ms: Sequence[float],
        recalled: recall.Recall | None,
        *,
        size: int,
        first: int = 0,
    ) -> None:
        self.inputs = inputs
        self.timeouts_ms = timeouts_ms
        self.recalled = recalled
        self.size = size
        self.first = first
        """Where *inputs* begin among all that their caller gave, and *recalled* speaks of."""
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()


class Turns:
    """Gives calls their turns, in the order in which they came; each is served under *lock*.

    A call that nobody is before is served by its caller, at once. Those that come meanwhile wait
    for a turn that is a task of its own, so that a caller that goes takes nobody with it: what it
    still waited for is dropped, what is being served goes on, unless all have gone. With `shared`
    isolation as many go together as fit into a frame and may be done in `TOGETHER_MS`. Where one of
    them breaks the frame, each is served alone: it costs the others that one attempt.
    """

    def __init__(
        self,
        lock: asyncio.Lock,
        serve: Serve,
        limits: limits_.Limits,
        isolation: messages.Isolation,
        counted: statistics.Statistics,
    ) -> None:
        self._lock = lock
        self._serve = serve
        self._counted = counted
        self._shared = isolation == "shared"
        self._cut_at = 1 if isolation == "call" else limits.batch_items_max
        self._items_max = limits.batch_items_max
        self._bytes_max = limits.request_bytes_max - limits_.KIB
        self._waiting: collections.deque[Call] = collections.deque()
        self._served: list[Call] = []
        self._turn: asyncio.Task[None] | None = None
        self._item_ms = 0.0

    async def run(
        self,
        inputs: Sequence[bytes],
        timeouts_ms: Sequence[float],
        recalled: recall.Recall | None = None,
    ) -> list[outcome.Outcome]:
        """One Outcome for each of *inputs*, in order; others have turns between frames of ours."""
        size = sum(map(len, inputs)) + _ITEM_OVERHEAD_BYTES * len(inputs)
        if 0 < len(inputs) <= self._cut_at and size <= self._bytes_max:
            if self._turn is not None or self._lock.locked():
                return (await self._wait(Call(inputs, timeouts_ms, recalled, size=size)))[0]
            # Nobody is before it, the most common case.
            await self._lock.acquire()
            try:
                return (await self._serve(inputs, timeouts_ms, recalled, None))[0]
            finally:
                self._lock.release()
        outcomes: list[outcome.Outcome] = []
        for first, last, size in self._cuts(inputs):
            part = inputs[first:last]
            call = Call(part, timeouts_ms[first:last], recalled, size=size, first=first)
            ended, rest = await self._wait(call)
            outcomes += ended
            if rest is not None:
                outcomes += [rest] * (len(inputs) - len(outcomes))
                break
        return outcomes

    def learn(self, wall_ms: float, items: int) -> None:
        """A frame has taken so long. Half is forgotten with each: a hang parts the next ten."""
        self._item_ms = (self._item_ms + wall_ms / items) / 2

    def _cuts(self, inputs: Sequence[bytes]) -> Iterator[tuple[int, int, int]]:
        """Where *inputs* are cut into what fits into a frame, and the size of each."""
        first = size = 0
        for index, data in enumerate(inputs):
            needed = len(data) + _ITEM_OVERHEAD_BYTES
            if index - first >= self._cut_at or (index > first and size + needed > self._bytes_max):
                yield first, index, size
                first, size = index, 0
            size += needed
        if inputs:
            yield first, len(inputs), size

    async def _wait(self, call: Call) -> Ended:
        self._counted.waiting += 1
        self._waiting.append(call)
        if self._turn is None:
            self._turn = asyncio.create_task(self._take_turn())
        try:
            return await call.ended
        except asyncio.CancelledError:
            self._leave(call)
            raise

    def _leave(self, call: Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
            self._counted.waiting -= 1
        elif (
            self._turn is not None
            and call in self._served
            and all(each.ended.done() for each in self._served)
        ):
            # Nobody's any more. As with a caller that is served alone: this ends the executor.
            self._turn.cancel()

    async def _take_turn(self) -> None:
        """Serve those that wait; another turn follows until one finds nobody.

        So it has begun before who was just answered comes back: they go together again.
        """
        try:
            async with self._lock:
                self._served = self._next()
                self._counted.waiting -= len(self._served)
                if self._served:
                    await self._serve_all(self._served)
        finally:
            more = self._served or self._waiting
            self._served = []
            self._turn = asyncio.create_task(self._take_turn()) if more else None

    def _next(self) -> list[Call]:
        taken: list[Call] = []
        items = size = 0
        while self._waiting:
            call = self._waiting[0]
            items += len(call.inputs)
            size += call.size
            fits = items <= self._items_max and size <= self._bytes_max
            if taken and not (self._shared and fits and items * self._item_ms <= TOGETHER_MS):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _serve_all(self, calls: Sequence[Call]) -> None:
        try:
            await self._serve_together(calls)
        except Parted:
            for call in calls:
                if not call.ended.done():
                    await self._serve_together((call,))

    async def _serve_together(self, calls: Sequence[Call]) -> None:
        inputs = [data for call in calls for data in call.inputs]
        timeouts_ms = [timeout_ms for call in calls for timeout_ms in call.timeouts_ms]
        within_s = TOGETHER_S_MAX if len(calls) > 1 else None
        try:
            outcomes, rest = await self._serve(inputs, timeouts_ms, _joined(calls), within_s)
        except Parted:
            raise
        except Exception as error:  # noqa: BLE001 (each caller's, as if it had been served alone)
            for call in calls:
                if not call.ended.done():
                    call.ended.set_exception(error)
            return
        finally:
            for call in calls:
                if call.recalled is not None:
                    call.recalled.heard_by(None)
        first = 0
        for call in calls:
            last = first + len(call.inputs)
            if not call.ended.done():
                call.ended.set_result((outcomes[first:last], rest))
            first = last


def _joined(calls: Sequence[Call]) -> recall.Recall | None:
    """What is recalled of *calls*, by the places of their items in a frame of all."""
    if all(call.recalled is None for call in calls):
        return None
    joined = recall.Recall()
    begins = 0
    for call in calls:
        if call.recalled is not None:
            own = range(call.first, call.first + len(call.inputs))
            call.recalled.told(joined, functools.partial(_place, own, begins))
        begins += len(call.inputs)
    return joined


def _place(own: range, begins: int, index: int) -> int | None:
    return index - own.start + begins if index in own else None
