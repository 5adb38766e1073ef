"""What must hold of a worker after each attack; `unexpected` says what does not."""

import asyncio
import contextlib
import ctypes
import os
import pathlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from tests import wait

_PR_SET_CHILD_SUBREAPER = 36
CELL = "bwrap"
EXECUTORS_MAX = 2
"""Of a cell: the active one and its spare."""
ATTACK = "attack-*"
"""Every file that an attack makes is named like this."""
LATE_S_MAX = 2.0
"""The event loop is this late at most. A busy machine delays it; a blocked one stands still."""
TICK_S = 0.02
CALM_S = 0.5


class Process(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    parent: int
    name: str
    state: str


def processes() -> dict[int, Process]:
    """All processes of the machine that this one can see, zombies included."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            head, _, tail = stat.rpartition(")")
            fields = tail.split()
            pid, _, name = head.partition(" (")
            found[int(pid)] = Process(
                pid=int(pid), parent=int(fields[1]), name=name, state=fields[0]
            )
    return found


def strangers(
    table: Mapping[int, Process], worker: int, *, known: frozenset[int], cells_max: int
) -> list[str]:
    """Name each process below *worker* that is no part of its cells, nor one of the *known*.

    A cell is bubblewrap, init below it, and at most two executors below that.
    """
    below: dict[int, list[Process]] = {}
    for process in table.values():
        below.setdefault(process.parent, []).append(process)

    found = []
    cells = 0
    for child in below.get(worker, []):
        if child.pid in known:
            continue
        if child.name != CELL:
            found.append(f"{child.name} ({child.pid}) below the worker")
            continue
        cells += 1
        inits = below.get(child.pid, [])
        found += [f"{init.name} ({init.pid}) beside init" for init in inits[1:]]
        for init in inits[:1]:
            found += _in_cell(below, init)
    if cells > cells_max:
        found.append(f"{cells} cells, not {cells_max}")
    return found


def _in_cell(below: Mapping[int, Sequence[Process]], init: Process) -> list[str]:
    executors = below.get(init.pid, [])
    found = [
        f"{child.name} ({child.pid}) below an executor"
        for executor in executors
        for child in below.get(executor.pid, [])
    ]
    if len(executors) > EXECUTORS_MAX:
        names = ", ".join(f"{one.name} ({one.pid})" for one in executors)
        found.append(f"more executors than {EXECUTORS_MAX}: {names}")
    return found


def descriptors() -> Counter[str]:
    """The open descriptors of this process, by what they are."""
    found: Counter[str] = Counter()
    for entry in pathlib.Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # the one that lists
            continue
        # Sockets and pipes have a number each.
        found[target.partition("[")[0] if target.startswith(("socket", "pipe")) else target] += 1
    return found


def files(folders: Sequence[pathlib.Path], named: Sequence[pathlib.Path]) -> set[str]:
    """All that lies below *folders*, and what lies directly in *named* and is an attack's."""
    found = {str(path) for folder in folders for path in folder.rglob("*")}
    return found | {str(path) for folder in named for path in folder.glob(ATTACK)}


class Watch:
    """Compares a worker, which is this process, with how it was at `begin`."""

    def __init__(self, *, folders: Sequence[pathlib.Path], named: Sequence[pathlib.Path]) -> None:
        self._folders = tuple(folders)
        self._named = tuple(named)
        self._pid = int(pathlib.Path("/proc/self").readlink().name)
        self._known = frozenset[int]()
        self._cells_max = 0
        self._descriptors: Counter[str] = Counter()
        self._files: set[str] = set()
        self._late_s = 0.0
        self._due = time.monotonic()
        self._ticks: asyncio.TimerHandle | None = None
        # A process that its parent has left is ours then, and not lost among the machine's.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def __enter__(self) -> Self:
        self._due = time.monotonic()
        self._tick()
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticks is not None:
            self._ticks.cancel()

    async def settled(self) -> None:
        """Wait until nothing starts or ends any more, and take that for what should be."""
        last: list[object] = []
        since = time.monotonic()

        def calm() -> bool:
            nonlocal last, since
            now = [sorted(self._below()), descriptors()]
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > CALM_S

        await wait.until(calm)
        below = self._below().values()
        children = [process for process in below if process.parent == self._pid]
        self._known = frozenset(child.pid for child in children if child.name != CELL)
        cells = sum(child.name == CELL for child in children)
        self.expect(descriptors(), cells=cells)

    def expect(self, opened: Counter[str], *, cells: int) -> None:
        """From now on there should be *cells* cells and the descriptors *opened* at most."""
        self._cells_max, self._descriptors = cells, opened
        self._files = files(self._folders, self._named)

    def _below(self) -> dict[int, Process]:
        table = processes()
        below = {self._pid}
        while more := {pid for pid, one in table.items() if one.parent in below} - below:
            below |= more
        return {pid: table[pid] for pid in below}

    async def unexpected(self, within_s: float = 5.0) -> list[str]:
        """Say what is not as it was, giving what is just ending *within_s* to do so."""
        found: list[str] = []

        def none_left() -> bool:
            found[:] = [*self.strangers(), *self._opened(), *self._left()]
            return not found

        with contextlib.suppress(AssertionError):
            await wait.until(none_left, within_s=within_s)
        # Its tick may be waiting behind this very call.
        late_s, self._late_s = max(self._late_s, time.monotonic() - self._due), 0.0
        if late_s > LATE_S_MAX:
            found.append(f"the event loop stood still for {late_s:.1f} s")
        return found

    def strangers(self) -> list[str]:
        table = processes()
        self._bury(table)
        found = strangers(table, self._pid, known=self._known, cells_max=self._cells_max)
        return [f"process left: {one}" for one in found]

    def _bury(self, table: dict[int, Process]) -> None:
        """Wait for those that ended and whose parent had, as the machine's first process would."""
        for process in list(table.values()):
            adopted = process.parent == self._pid and process.name != CELL
            if adopted and process.state == "Z" and process.pid not in self._known:
                os.waitpid(process.pid, os.WNOHANG)
                del table[process.pid]

    def _opened(self) -> list[str]:
        more = descriptors() - self._descriptors
        if descriptors().total() <= self._descriptors.total():
            return []
        return [f"descriptor left: {count} more {name}" for name, count in more.items()]

    def _left(self) -> list[str]:
        more = files(self._folders, self._named) - self._files
        return [f"file left: {path}" for path in sorted(more)]

    def _tick(self) -> None:
        now = time.monotonic()
        self._late_s = max(self._late_s, now - self._due)
        self._due = now + TICK_S
        self._ticks = asyncio.get_running_loop().call_later(TICK_S, self._tick)
