"""The cells of a worker: one for each program, the least recently used one closed for a new one."""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from loopai.sandbox import bubblewrap, cell, enclosure, limits, outcome, program, runtimes

Key = tuple[str, str, str]


class _Entry(msgspec.Struct):
    cell: cell.Cell
    users: int = 0


class CellPool:
    """Runs programs, each in a cell of its own. Closed by the one who made it.

    At most *cells_max* cells, and a blank one kept ready so that a new program waits for a fork
    and not for an interpreter.
    """

    def __init__(self, limits: limits.Limits, *, cells_max: int) -> None:
        if cells_max < 1:
            raise ValueError("cells_max must be at least 1")
        self._limits = limits
        self._cells_max = cells_max
        self._cells: collections.OrderedDict[Key, _Entry] = collections.OrderedDict()
        self._changed = asyncio.Condition()
        self._interpreter: asyncio.Task[bubblewrap.Interpreter] | None = None
        self._blank: asyncio.Task[enclosure.Enclosure] | None = None
        self._closed = False
        self.languages = runtimes.languages()
        """What this pool can run; a program in another language raises LoadError."""

    async def run(
        self, program: program.Program, inputs: Sequence[bytes], timeouts_ms: Sequence[float]
    ) -> list[outcome.Outcome]:
        """Run *program* on *inputs* (JSON text); one Outcome each, in order.

        Never raises for what a program does. Calls of one program wait for each other.
        """
        if len(inputs) != len(timeouts_ms):
            raise ValueError("inputs and timeouts_ms differ in length")
        if any(not timeout_ms > 0 for timeout_ms in timeouts_ms):
            raise ValueError("a timeout must be positive")
        async with self._borrow(program) as borrowed:
            return await borrowed.run(inputs, timeouts_ms)

    async def load(self, program: program.Program) -> None:
        """Load *program* into a cell; raises LoadError with line and reason if it does not load."""
        async with self._borrow(program) as borrowed:
            await borrowed.load()

    async def close(self) -> None:
        """Kill all cells and wait until their processes are gone."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()
            entries, self._cells = list(self._cells.values()), collections.OrderedDict()
        await asyncio.gather(*(entry.cell.close() for entry in entries))
        blank, self._blank = self._blank, None
        if blank is not None:
            blank.cancel()
            await asyncio.wait({blank})
            if not blank.cancelled() and blank.exception() is None:
                await blank.result().close()
        if self._interpreter is not None:
            self._interpreter.cancel()
            await asyncio.wait({self._interpreter})

    @contextlib.asynccontextmanager
    async def _borrow(self, program: program.Program) -> AsyncIterator[cell.Cell]:
        key = (program.tenant, program.digest, program.isolation)
        entry = self._cells.get(key)
        if entry is None:
            entry = await self._admit(key, program)
        else:
            self._cells.move_to_end(key)
        entry.users += 1
        try:
            yield entry.cell
        finally:
            entry.users -= 1
            if entry.users == 0 and len(self._cells) >= self._cells_max:
                async with self._changed:
                    self._changed.notify()

    async def _admit(self, key: Key, program: program.Program) -> _Entry:
        async with self._changed:
            while True:
                if self._closed:
                    raise RuntimeError("the pool is closed")
                entry = self._cells.get(key)
                if entry is not None:
                    return entry
                if len(self._cells) < self._cells_max:
                    entry = _Entry(cell=cell.Cell(program, self._limits, self._open_enclosure))
                    self._cells[key] = entry
                    return entry
                idle = next((k for k, e in self._cells.items() if e.users == 0), None)
                if idle is None:
                    await self._changed.wait()
                else:
                    await self._cells.pop(idle).cell.close()

    async def _open_enclosure(self) -> enclosure.Enclosure:
        blank, self._blank = self._blank, None
        try:
            opened = await (blank or asyncio.ensure_future(self._start()))
        except enclosure.EnclosureError:
            if blank is None:
                raise
            opened = await self._start()
        if self._blank is None and not self._closed:
            self._blank = asyncio.create_task(self._start())
        return opened

    async def _start(self) -> enclosure.Enclosure:
        if self._interpreter is None:
            self._interpreter = asyncio.create_task(bubblewrap.discover())
        interpreter = await asyncio.shield(self._interpreter)
        return await enclosure.Enclosure.open(interpreter, self._limits)
