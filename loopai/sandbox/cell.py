"""A cell: one program, its active executor and a spare, and the sorting out of bad batches."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from loopai.sandbox import answers, channel, outcome, program, recall, statistics, turns
from loopai.sandbox import enclosure as enclosure_
from loopai.sandbox import executor as executor_
from loopai.sandbox import limits as limits_

_SPARE_KINDS: Final[dict[outcome.OutcomeKind, statistics.Cause]] = {
    "timeout": "timeout",
    "out_of_memory": "out_of_memory",
}
"""After these an executor may hold what it should not: half-changed state, or all of its memory."""
_CAUSES: Final[dict[channel.End, statistics.Cause]] = {
    "timeout": "timeout",
    "cancelled": "cancelled",
    "out_of_memory": "out_of_memory",
    "tampered": "tampered",
    "died": "exited",
}
_PLANNED: Final[frozenset[statistics.Cause]] = frozenset(
    {"cancelled", "isolated", "recycled", "closed"}
)
"""Ends that say nothing of the program."""
_LOSSES_MAX: Final = 2
"""Executors that one item may bring down by itself, before it is blamed."""
_LEAPS_MAX: Final = 3
"""Timeouts blamed on another item than the next one, in one batch. What is running is the program's
word: one that lies could make every turn as long as the batch."""
_LARGE_BYTES: Final = 32 * limits_.KIB
"""A result to be checked in a thread: of 512 KiB it takes 50 ms."""
_STALL_S: Final = 0.0005
"""How long results are checked before others get a turn."""
_NO_RESULT: Final = answers.lost("no result")
_NOTHING: Final[frozenset[int]] = frozenset()


class Cell:
    """Runs one program. Calls wait for each other, then go together; the owner closes it."""

    def __init__(
        self,
        program_: program.Program,
        limits: limits_.Limits,
        open_enclosure: Callable[[], Awaitable[enclosure_.Enclosure]],
        counted: statistics.Statistics,
    ) -> None:
        self._program = program_
        self._limits = limits
        self._open_enclosure = open_enclosure
        self._counted = counted
        self._lock = asyncio.Lock()
        self._turns = turns.Turns(self._lock, self._serve, limits, program_.isolation, counted)
        self._enclosure: enclosure_.Enclosure | None = None
        self._active: executor_.Executor | None = None
        self._spare: asyncio.Task[executor_.Executor] | None = None
        self._shared = program_.isolation == "shared"
        self._spare_wanted = not self._shared
        """Whatever the runtime says: executors of this cell do get replaced."""
        self._frame: tuple[executor_.Executor, Sequence[int]] | None = None
        """The batch that is running, by the indices of its call."""
        self._closed = False

    async def load(self) -> None:
        """Make sure that an executor holds the program; raises LoadError or EnclosureError."""
        async with self._lock:
            await self._ready()

    async def run(
        self,
        inputs: Sequence[bytes],
        timeouts_ms: Sequence[float],
        recalled: recall.Recall | None = None,
    ) -> list[outcome.Outcome]:
        """Run the program on *inputs*, but for those *recalled*; one Outcome each, in order."""
        bytes_max = self._limits.input_bytes_max
        fitting = [index for index, data in enumerate(inputs) if len(data) <= bytes_max]
        if len(fitting) == len(inputs):
            ended = await self._turns.run(inputs, timeouts_ms, recalled)
        else:
            ended = [answers.too_large(bytes_max)] * len(inputs)
            found = await self._turns.run(
                [inputs[index] for index in fitting],
                [timeouts_ms[index] for index in fitting],
                recalled and recalled.of(fitting),
            )
            for index, one in zip(fitting, found, strict=True):
                ended[index] = one
        for one in ended:
            self._counted.outcomes[one.kind] += 1
        return ended

    @property
    def pids(self) -> list[int]:
        """Of all processes of the cell, as far as they are up."""
        found = [] if self._enclosure is None else self._enclosure.pids
        found += [one.pid for one in self._executors() if one.pid is not None]
        return found

    def end_the_busy(self) -> None:
        """End executors that ran on their own since we last looked; only for a cell nobody uses.

        A program has answered and goes on: nothing else would notice before its next call.
        """
        for one in self._executors():
            if one.usable and one.has_run_idle():
                one.close()
                self._counted.kills["idle"] += 1

    async def rest(self) -> bool:
        """Have executors that had nothing to do for a while give back memory, once after each use.

        Whether any has. Then a spare that is no fork goes too: its cell has one again once it needs
        it. Nothing where a call is under way; one that comes meanwhile waits, without its time
        running.
        """
        if self._lock.locked() or self._forks:
            return False
        async with self._lock:
            active = self._active
            if self._shared and active is not None and active.usable and active.may_rest():
                self._spare_wanted = False
                spare, self._spare = self._spare, None
                await asyncio.shield(asyncio.ensure_future(_end(spare, None)))
            resting = [one for one in self._executors() if one.usable and one.may_rest()]
            for one in resting:
                await one.rest()
        return bool(resting)

    async def close(self) -> None:
        """Kill everything in the cell and wait until it is gone. Calls that still wait are lost."""
        self._closed = True
        async with self._lock:
            await self._break()

    def _executors(self) -> list[executor_.Executor]:
        """The active one and the spare, as far as they are made."""
        found = [] if self._active is None else [self._active]
        if self._spare is not None and _made(self._spare):
            found.append(self._spare.result())
        return found

    async def _serve(
        self,
        inputs: Sequence[bytes],
        timeouts_ms: Sequence[float],
        recalled: recall.Recall | None,
        within_s: float | None,
    ) -> turns.Ended:
        """Run one frame, and sort out what becomes of it. Under the lock. See turns.Serve."""
        outcomes: list[outcome.Outcome | None] = [None] * len(inputs)
        unwanted = _NOTHING if recalled is None else recalled.items
        if recalled is not None:
            recalled.heard_by(self._recall)
        try:
            pending = list(range(len(inputs)))
            await self._settle(pending, inputs, timeouts_ms, unwanted, outcomes, within_s=within_s)
            if not self._shared:
                self._retire("isolated")
        except program.LoadError as error:
            rest = outcome.Outcome(
                kind="error", error_type="LoadError", message=str(error), line=error.line
            )
        except enclosure_.EnclosureError as error:
            rest = answers.lost(str(error))
        else:
            return [one or _NO_RESULT for one in outcomes], None
        finally:
            if recalled is not None:
                recalled.heard_by(None)
        return [one or rest for one in outcomes], rest

    async def _settle(
        self,
        pending: list[int],
        inputs: Sequence[bytes],
        timeouts_ms: Sequence[float],
        recalled: AbstractSet[int],
        outcomes: list[outcome.Outcome | None],
        *,
        within_s: float | None = None,
    ) -> None:
        """Run the items *pending* until each has an outcome. turns.Parted, of several calls.

        Each turn ends with all of them done, the culprit of a timeout blamed, a recalled one ended
        or left out, the batch cut into single items, or one of `_LOSSES_MAX` losses of a single
        item: so it ends.
        """
        losses = leaps = 0
        while pending := _wanted(pending, recalled, outcomes):
            # Most calls find one: three µs fewer than by way of those who would have to wait.
            executor = self._at_hand() or await self._executor()
            if recalled and not recalled.isdisjoint(pending):
                continue  # while it was made ready
            self._frame = executor, pending
            self._counted.frames += 1
            running = executor.run(
                [inputs[index] for index in pending],
                [timeouts_ms[index] / 1000 for index in pending],
            )
            try:
                # A lone call goes without the 3 µs of a deadline that it does not have.
                run = await (running if within_s is None else _within(within_s, running))
            except TimeoutError as error:
                self._turns.learn(turns.TOGETHER_S_MAX * 1000, len(pending))
                self._retire("timeout")
                raise turns.Parted from error
            finally:
                self._frame = None
            self._turns.learn(run.wall_ms, len(pending))
            await self._take(pending, run, outcomes)
            if run.end == "done":
                self._after([outcomes[index] for index in pending])
                return
            self._retire(_CAUSES[run.end])
            if within_s is not None and run.end != "cancelled":
                raise turns.Parted
            leaps += run.end == "timeout" and run.culprit != len(run.replies)
            if len(pending) == 1:
                losses += 1
                if run.culprit is not None or losses == _LOSSES_MAX:
                    outcomes[pending[0]] = answers.blame(run, timeouts_ms[pending[0]])
            elif run.culprit is not None and (
                run.end == "cancelled" or (run.end == "timeout" and leaps <= _LEAPS_MAX)
            ):
                blamed = pending[run.culprit]
                outcomes[blamed] = answers.blame(run, timeouts_ms[blamed])
            else:
                # Who wrote garbage or closed the channel may have gone on to other items before
                # we noticed: only alone is an item known to be the one.
                for index in pending[len(run.replies) :]:
                    await self._settle([index], inputs, timeouts_ms, recalled, outcomes)
                return
            pending = [index for index in pending if outcomes[index] is None]

    async def _take(
        self, pending: Sequence[int], run: channel.Run, outcomes: list[outcome.Outcome | None]
    ) -> None:
        since = time.monotonic()
        for index, reply in zip(pending, run.replies, strict=False):
            if len(reply.output) > _LARGE_BYTES:
                outcomes[index] = await asyncio.to_thread(
                    answers.answer, reply, run.wall_ms, self._limits
                )
            else:
                outcomes[index] = answers.answer(reply, run.wall_ms, self._limits)
            if time.monotonic() - since > _STALL_S:
                await asyncio.sleep(0)
                since = time.monotonic()

    def _recall(self, index: int) -> None:
        """Item *index* of the call whose turn it is became unwanted."""
        if self._frame is None:
            return  # looked at before its batch is sent
        executor, running = self._frame
        if index in running:
            executor.recall(running.index(index))

    def _at_hand(self) -> executor_.Executor | None:
        """The active executor, where nothing is to be done about it or its spare."""
        active = self._active
        if active is None or not active.usable or self._closed:
            return None
        kept = self._spare is not None if self._spare_wanted or self._forks else True
        return active if kept and not self._stale(active) else None

    async def _executor(self) -> executor_.Executor:
        try:
            return await self._ready()
        except enclosure_.EnclosureError:
            # Somebody may have killed the cell; one that cannot be built anew either is an error.
            await self._break()
            return await self._ready()

    async def _ready(self) -> executor_.Executor:
        """Return an executor that holds the program, with a spare behind it where one is due."""
        if self._closed:
            raise enclosure_.EnclosureError("the cell is closed")
        active = self._active
        if active is not None and (not active.usable or self._replaceable(active)):
            self._retire("recycled" if active.usable else "lost")
            active = None
        if active is None:
            if self._enclosure is None or self._enclosure.broken:
                await self._break()
                self._enclosure = await self._open_enclosure()
            self._active = active = await self._promote()
        if self._spare is None and self._spare_due(active):
            self._spare = asyncio.create_task(self._spawn())
        return active

    async def _promote(self) -> executor_.Executor:
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                # Shielded: if our caller goes in the moment in which it is made, nobody else
                # would close it.
                executor = await asyncio.shield(spare)
            except asyncio.CancelledError:
                self._spare = spare
                raise
            except (program.LoadError, enclosure_.EnclosureError):
                pass  # the fresh one below says what is wrong now
            else:
                if executor.usable:
                    return executor
                executor.close()
        return await self._spawn()

    async def _spawn(self) -> executor_.Executor:
        if self._enclosure is None:
            raise enclosure_.EnclosureError("the cell is closed")
        self._counted.executors_started += 1
        try:
            return await executor_.Executor.open(self._enclosure, self._program, self._limits)
        except OSError as error:  # no descriptors left, or no memory: it may pass
            raise enclosure_.EnclosureError(f"no executor can be started: {error}") from error

    def _spare_due(self, active: executor_.Executor) -> bool:
        return self._spare_wanted or self._forks or self._stale(active)

    @property
    def _forks(self) -> bool:
        return self._enclosure is not None and self._enclosure.runtime.forked

    def _replaceable(self, active: executor_.Executor) -> bool:
        return self._spare is not None and self._spare.done() and self._stale(active)

    def _stale(self, active: executor_.Executor) -> bool:
        limits = self._limits
        age_s = time.monotonic() - active.born
        return active.runs >= limits.recycle_runs or age_s >= limits.recycle_s

    def _after(self, settled: Sequence[outcome.Outcome | None]) -> None:
        for one in settled:
            if one is not None and one.kind in _SPARE_KINDS:
                self._retire(_SPARE_KINDS[one.kind])
                return

    def _retire(self, cause: statistics.Cause) -> None:
        if self._active is not None:
            self._active.close()
            self._active = None
            self._counted.kills[cause] += 1
            self._spare_wanted |= cause not in _PLANNED

    async def _break(self) -> None:
        self._retire("closed")
        spare, self._spare = self._spare, None
        enclosure, self._enclosure = self._enclosure, None
        # Shielded: a caller that goes meanwhile must not leave half of it behind.
        await asyncio.shield(asyncio.ensure_future(_end(spare, enclosure)))


def _wanted(
    pending: list[int], recalled: AbstractSet[int], outcomes: list[outcome.Outcome | None]
) -> list[int]:
    """*pending* without what is *recalled*, which gets its outcome."""
    if not recalled:
        return pending
    for index in recalled & set(pending):
        outcomes[index] = answers.recalled()
    return [index for index in pending if index not in recalled]


async def _within(seconds: float, running: Awaitable[channel.Run]) -> channel.Run:
    async with asyncio.timeout(seconds):
        return await running


async def _end(
    spare: asyncio.Task[executor_.Executor] | None, enclosure: enclosure_.Enclosure | None
) -> None:
    if spare is not None:
        spare.cancel()
        await asyncio.wait({spare})
        if _made(spare):
            spare.result().close()
    if enclosure is not None:
        await enclosure.close()


def _made(spare: asyncio.Task[executor_.Executor]) -> bool:
    return spare.done() and not spare.cancelled() and spare.exception() is None
