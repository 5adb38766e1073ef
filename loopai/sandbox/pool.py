"""The cells of a worker: one for each program, the least recently used one closed for a new one."""

import asyncio
import collections
import functools
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from loopai.sandbox import (
    cell,
    cgroups,
    enclosure,
    limits,
    memory,
    outcome,
    program,
    recall,
    rounds,
    runtimes,
    statistics,
)
from loopai.sandbox.runtimes import runtime
from streams import messages, topology

Key = tuple[str, str, str, str]

TIMEOUT_MS_MAX: Final = 3_600_000.0


class CellPool:
    """Runs programs, each in a cell of its own. Closed by the one who made it.

    At most *cells_max* cells, of *memory_bytes_max* together (None: no bound), and a blank one kept
    ready so that a new program waits for a fork and not for an interpreter. Cells are weighed now
    and then, after they were used, and those in use stay: for a while it may be more.
    """

    def __init__(
        self, limits: limits.Limits, *, cells_max: int, memory_bytes_max: int | None = None
    ) -> None:
        if cells_max < 1:
            raise ValueError("cells_max must be at least 1")
        self.languages = runtimes.languages()
        """What this pool can run; a program in another language raises LoadError."""
        self.statistics = statistics.Statistics()
        self._limits = limits
        self._cells_max = cells_max
        self._memory_bytes_max = memory_bytes_max
        self._cells: collections.OrderedDict[Key, rounds.Entry] = collections.OrderedDict()
        self._changed = asyncio.Condition()
        self._runtimes: dict[messages.Runtime, asyncio.Task[runtime.Runtime]] = {}
        self._blanks: dict[messages.Runtime, asyncio.Task[enclosure.Enclosure]] = {}
        self._rounds = rounds.Rounds()
        self._going: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        try:
            self._groups: cgroups.Cgroups | None = cgroups.find()
        except cgroups.UnavailableError:
            self._groups = None

    @property
    def cells(self) -> int:
        """How many cells hold a program."""
        return len(self._cells)

    def memory_bytes(self) -> int:
        """Return what all cells and their processes take now; about a millisecond for each cell."""
        pids = [pid for entry in self._cells.values() for pid in entry.cell.pids]
        return memory.used(pids + self._blank_pids())

    @property
    def weight_bytes(self) -> int:
        """What the cells took when each was last weighed: some seconds ago, or when last used."""
        return self._rounds.weight_bytes

    async def run(
        self,
        program: program.Program,
        inputs: Sequence[bytes],
        timeouts_ms: Sequence[float],
        recalled: recall.Recall | None = None,
    ) -> list[outcome.Outcome]:
        """Run *program* on *inputs* (JSON text); one Outcome each, in order.

        What is *recalled*, before or meanwhile, ends as `cancelled` unless it has ended. Never
        raises for what a program does. Calls of one program wait for each other.
        """
        if len(inputs) != len(timeouts_ms):
            raise ValueError("inputs and timeouts_ms differ in length")
        if any(not 0 < timeout_ms <= TIMEOUT_MS_MAX for timeout_ms in timeouts_ms):
            raise ValueError(f"a timeout must be positive, and at most {TIMEOUT_MS_MAX}")
        entry = await self._borrow(program)
        try:
            return await entry.cell.run(inputs, timeouts_ms, recalled)
        finally:
            await self._return(entry)

    async def load(self, program: program.Program) -> None:
        """Load *program* into a cell; raises LoadError with line and reason if it does not load."""
        entry = await self._borrow(program)
        try:
            await entry.cell.load()
        finally:
            await self._return(entry)

    async def drop(self, program: program.Program) -> None:
        """Close the cell of *program* if it has one that nobody uses: it will not be run again."""
        async with self._changed:
            entry = self._cells.get(_key(program))
            if entry is None or entry.users:
                return
            self._rounds.drop(self._cells.pop(_key(program)))
            self._changed.notify_all()
        await self._ended(entry.cell.close())

    async def close(self) -> None:
        """Kill all cells and wait until their processes are gone."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()
            entries, self._cells = list(self._cells.values()), collections.OrderedDict()
        if self._going is not None:
            await _cancelled(self._going)
        await asyncio.gather(*(entry.cell.close() for entry in entries))
        self._rounds = rounds.Rounds()
        blanks, self._blanks = self._blanks, {}
        for blank in blanks.values():
            if await _cancelled(blank):
                await blank.result().close()
        await asyncio.gather(*self._closing)
        for found in self._runtimes.values():
            await _cancelled(found)
        if self._groups is not None:
            self._groups.close()

    # Two methods, not a context manager: 3 µs of a call.
    async def _borrow(self, program: program.Program) -> rounds.Entry:
        key = _key(program)
        entry = self._cells.get(key)
        if entry is None:
            self.statistics.misses += 1
            entry = await self._admit(key, program)
        else:
            self.statistics.hits += 1
            self._cells.move_to_end(key)
        entry.users += 1
        if self._going is None or self._going.done():
            self._going = asyncio.create_task(self._go_round())
        return entry

    async def _return(self, entry: rounds.Entry) -> None:
        entry.users -= 1
        if entry.users == 0 and len(self._cells) >= self._cells_max:
            async with self._changed:
                # All: one that is woken in the moment in which it is cancelled wakes nobody else.
                self._changed.notify_all()
        self._rounds.change(entry)

    async def _admit(self, key: Key, program: program.Program) -> rounds.Entry:
        self.statistics.waiting += 1
        try:
            async with self._changed:
                return await self._room(key, program)
        finally:
            self.statistics.waiting -= 1

    async def _room(self, key: Key, program: program.Program) -> rounds.Entry:
        while True:
            if self._closed:
                raise RuntimeError("the pool is closed")
            entry = self._cells.get(key)
            if entry is not None:
                return entry
            if len(self._cells) < self._cells_max:
                made = cell.Cell(
                    program,
                    self._limits,
                    functools.partial(self._open_enclosure, program.language),
                    self.statistics,
                )
                entry = self._cells[key] = rounds.Entry(cell=made)
                self._rounds.add(entry)
                return entry
            if not await self._evict():
                await self._changed.wait()

    async def _evict(self) -> bool:
        """Close the cell that was used least recently of those that are idle, if one is."""
        idle = next((key for key, entry in self._cells.items() if entry.users == 0), None)
        if idle is None:
            return False
        self.statistics.evictions += 1
        entry = self._cells.pop(idle)
        self._rounds.drop(entry)
        await self._ended(entry.cell.close())
        return True

    async def _ended(self, closing: Coroutine[Any, Any, None]) -> None:
        """Wait for *closing*, which goes on if our caller goes, and which `close` waits for."""
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        await asyncio.shield(task)

    async def _go_round(self) -> None:
        while True:
            await asyncio.sleep(rounds.LOOK_S)
            await self._rounds.look()
            await self._rounds.weigh(self._blank_pids())
            await self._keep_within_memory()

    async def _keep_within_memory(self) -> None:
        while self._memory_bytes_max is not None and self.weight_bytes > self._memory_bytes_max:
            async with self._changed:
                if not await self._evict():
                    return

    def _blank_pids(self) -> list[int]:
        made = [blank.result() for blank in self._blanks.values() if _made(blank)]
        return [pid for each in made for pid in each.pids]

    async def _open_enclosure(self, language: messages.Language) -> enclosure.Enclosure:
        name = topology.RUNTIMES.get(language)
        if name is None:
            raise program.LoadError(f"there is no runtime for {language}")
        blank = self._blanks.pop(name, None)
        self.statistics.blanks_used += blank is not None
        if blank is None or (blank.done() and not _made(blank)):
            blank = asyncio.create_task(self._start(name))
        try:
            # Shielded: if our caller goes in the moment in which it is made, nobody else would
            # close it.
            opened = await asyncio.shield(blank)
        except asyncio.CancelledError:
            if self._blanks.setdefault(name, blank) is not blank:
                await self._ended(_discard(blank))
            raise
        except runtime.MissingError as error:
            if name == "python":
                raise
            raise program.LoadError(f"this worker cannot run {language}: {error}") from error
        if name not in self._blanks and not self._closed:
            self._blanks[name] = asyncio.create_task(self._start(name))
        return opened

    async def _start(self, name: messages.Runtime) -> enclosure.Enclosure:
        if name not in self._runtimes:
            self._runtimes[name] = asyncio.create_task(runtimes.discover(name))
        found = await asyncio.shield(self._runtimes[name])
        self.statistics.cells_started += 1
        try:
            return await enclosure.Enclosure.open(found, self._limits, self._groups)
        except OSError as error:  # no descriptors left, or no memory: it may pass
            raise enclosure.EnclosureError(f"no cell can be started: {error}") from error


def _key(program: program.Program) -> Key:
    return (program.tenant, program.digest, program.isolation, program.language)


def _made(task: asyncio.Task[Any]) -> bool:  # Any: whatever it was to return
    return task.done() and not task.cancelled() and task.exception() is None


async def _discard(blank: asyncio.Task[enclosure.Enclosure]) -> None:
    await asyncio.wait({blank})
    if _made(blank):
        await blank.result().close()


async def _cancelled(task: asyncio.Task[Any]) -> bool:  # Any: as above
    """End *task*; whether it had come to its result before."""
    task.cancel()
    await asyncio.wait({task})
    return _made(task)
