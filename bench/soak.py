"""200,000 executions over 50 programs, 1 % of them hostile: right answers, and nothing leaks.

Each program does one thing wrong when its input says so, in the middle of a batch of good calls.
The first half runs with a cell for each program; the second with fewer, so that cells are closed
and made all the time. Figures are taken at rest, after each quarter. A leak is a failure: what is
allowed to grow, and by how much, stands in the constants here.
"""

import asyncio
import collections
import contextlib
import faulthandler
import gc
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import processes, report
from loopai.sandbox import limits, outcome, pool, program

EXECUTIONS = 200_000
PROGRAMS = 50
HOSTILE_SHARE = 0.01
BATCH_MAX = 64
AT_ONCE = 4
CELLS_MAX = (PROGRAMS, PROGRAMS, 20, 20)
"""By quarter. Where it changes the pool is closed, and nothing may be left of it."""
WORKING_SET = 15
"""Programs in use at a time, fewer than the cells of the second half …"""
STEP = 20
"""… and how many batches later another takes the place of one of them."""
TIMEOUT_MS = 5_000.0
HOSTILE_TIMEOUT_MS = 20.0
"""So short that on a busy machine it may come first, whatever the call does wrong."""
RECYCLE_RUNS = 1_500
"""Executors are replaced several times a program."""
RUN_S_MAX = 150.0
CLOSE_S_MAX = 20.0
EXIT_S_MAX = 178.0
"""The process ends by itself, whatever hangs."""
REST_S = 0.3
REST_S_MAX = 6.0

# What may grow between two samples with as many cells: never from the start, which is cold.
HOST_MB_MAX = 3.0
"""Over 50,000 calls, 60 bytes each; allocators and counters settle below it."""
CELL_MB_MAX = 2.0

COLUMNS = (
    "after",
    "executions",
    "time",
    "host RSS",
    "cells",
    "PSS a cell",
    "processes",
    "fds",
    "tasks",
    "files",
)

_OS = "__import__('random')._os"
HOSTILE: Final[dict[str, tuple[str, frozenset[outcome.OutcomeKind]]]] = {
    "loop": ("while True: pass", frozenset({"timeout"})),
    "loop in C": ("sum(range(10**11))", frozenset({"timeout"})),
    "regex": ("__import__('re').match('(a+)+$', 'a' * 40 + 'b')", frozenset({"timeout"})),
    "swallowed deadline": (
        "while True:\n  try:\n   while True: pass\n  except BaseException: pass",
        frozenset({"timeout"}),
    ),
    "message that hangs": (
        "class Bad(Exception):\n  def __str__(self):\n   while True: pass\n raise Bad",
        frozenset({"timeout"}),
    ),
    "memory bomb": (
        "x = [bytearray(2**24) for _ in range(100)]",
        frozenset({"out_of_memory"}),
    ),
    "swallowed memory": (
        "x = []\n try:\n  while True: x.append(bytearray(2**24))\n except MemoryError: pass",
        frozenset({"success", "out_of_memory"}),
    ),
    "recursion": ("f = lambda: f()\n f()", frozenset({"error"})),
    "exit": (f"{_OS}._exit(0)", frozenset({"killed"})),
    "abort": (f"{_OS}.abort()", frozenset({"killed"})),
    "garbage on the socket": (f"{_OS}.write(3, b'x' * 99)", frozenset({"killed"})),
    "socket closed": (f"{_OS}.close(3)", frozenset({"killed"})),
    "output bomb": ("return 'x' * 10**6", frozenset({"output_too_large"})),
    "not JSON": ("return {1: object()}", frozenset({"invalid_result"})),
    "flood": ("print('x' * 10**6)", frozenset({"success"})),
    "fork": (f"{_OS}.fork()", frozenset({"error"})),
    "litter": (
        "KEPT.append(1)\n open(f'/tmp/{len(KEPT)}', 'w').write('x' * 10**5)",
        frozenset({"success", "error"}),
    ),
    "files kept open": (
        "for _ in range(99): KEPT.append(open('/tmp/kept', 'w'))",
        frozenset({"success", "error"}),
    ),
}
"""Name: what the program does, and what may be said of that call."""


class Job(msgspec.Struct, frozen=True):
    """One batch for program *number*."""

    number: int
    values: list[int]
    hostile: frozenset[int]
    """Indices of the calls that are told to do the wrong thing."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What this process and its cells hold at rest."""

    executions: int
    seconds: float
    host_mb: float
    cells: int
    cell_mb: float | None
    processes: int
    fds: int
    tasks: int
    files: int


class Soak:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = time.monotonic()
        self._executions = 0
        self.wrong: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()

    async def work(self, cells: pool.CellPool, cells_max: int, jobs: list[Job]) -> None:
        """Run *jobs*, and leave *cells_max* cells with an executor and a spare each."""
        async with asyncio.TaskGroup() as group:
            left = iter(jobs)
            for _ in range(AT_ONCE):
                group.create_task(self._worker(cells, left))
        lately = dict.fromkeys(job.number for job in reversed(jobs))
        for number in list(lately)[:cells_max]:
            await cells.load(_program(number))

    async def _worker(self, cells: pool.CellPool, jobs: Iterator[Job]) -> None:
        for job in jobs:
            one = _program(job.number)
            inputs = [b'{"a":%d,"bad":false}' % value for value in job.values]
            timeouts = [TIMEOUT_MS] * len(inputs)
            for index in job.hostile:
                inputs[index] = b'{"a":0,"bad":true}'
                timeouts[index] = HOSTILE_TIMEOUT_MS
            outcomes = await cells.run(one, inputs, timeouts)
            self._check(job, outcomes)
            self._executions += len(outcomes)

    def _check(self, job: Job, outcomes: list[outcome.Outcome]) -> None:
        name, allowed = _fault(job.number), HOSTILE[_fault(job.number)][1]
        for index, one in enumerate(outcomes):
            if index in job.hostile:
                self.kinds[one.kind] += 1
                if one.kind not in allowed | {"timeout"}:
                    self.wrong[f"{name}: {one.kind} ({one.message[:100]})"] += 1
            elif one.kind != "success" or json.loads(one.output or b"0") != (
                job.values[index] * (job.number + 1)
            ):
                self.wrong[f"good call beside {name}: {one.kind} ({one.message[:100]})"] += 1

    async def sample(self) -> Sample:
        below = await _at_rest()
        of_cells = [child for child in below.values() if child.parent == os.getpid()]
        trees = [[child.pid, *processes.below(child.pid)] for child in of_cells]
        warm = [tree for tree in trees if len(tree) > 2]
        cell_mb = None
        with contextlib.suppress(PermissionError):  # only root may read it
            cell_mb = processes.pss_mb([pid for tree in warm for pid in tree]) / max(len(warm), 1)
        gc.collect()
        return Sample(
            executions=self._executions,
            seconds=time.monotonic() - self._begun,
            host_mb=processes.own_rss_mb(),
            cells=len(warm),
            cell_mb=cell_mb,
            processes=len(below),
            fds=_count(Path("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
            files=_count(self._folder),
        )


def measure() -> report.Report:
    """Run the soak; at most three minutes."""
    faulthandler.dump_traceback_later(EXIT_S_MAX, exit=True)
    try:
        with tempfile.TemporaryDirectory(prefix="loopai-soak-") as folder:
            tempfile.tempdir = folder
            samples, failures = uvloop.run(_measure(Path(folder)))
    finally:
        tempfile.tempdir = None
        faulthandler.cancel_dump_traceback_later()
    rows = [_row(name, sample) for name, sample in samples.items()]
    return report.Report(title="soak", columns=COLUMNS, rows=rows, failures=failures)


async def _measure(folder: Path) -> tuple[dict[str, Sample], list[str]]:
    soak = Soak(folder)
    samples = {"start": await soak.sample()}
    failures = []
    try:
        async with asyncio.timeout(RUN_S_MAX):
            for cells_max in dict.fromkeys(CELLS_MAX):
                async with _cells(cells_max) as cells:
                    for quarter in range(len(CELLS_MAX)):
                        if CELLS_MAX[quarter] == cells_max:
                            await soak.work(cells, cells_max, jobs(quarter))
                            samples[f"quarter {quarter + 1}"] = await soak.sample()
                samples[f"closing {cells_max} cells"] = await soak.sample()
    except TimeoutError:
        failures.append(f"not done in {RUN_S_MAX:.0f} s")
    failures += [f"{count} times {what}" for what, count in soak.wrong.most_common(20)]
    return samples, failures + leaks(samples)


def jobs(quarter: int) -> list[Job]:
    """Return the batches of a quarter: the same each time, and 1 % of their calls hostile."""
    chance = random.Random(quarter)  # noqa: S311 (to be repeated, not to be secret)
    every = CELLS_MAX[quarter] == PROGRAMS
    made: list[Job] = []
    left = EXECUTIONS // len(CELLS_MAX)
    while left > 0:
        size = min(chance.randint(1, BATCH_MAX), left)
        number = chance.randrange(PROGRAMS if every else WORKING_SET)
        if not every:
            number = (number + len(made) // STEP) % PROGRAMS
        made.append(
            Job(
                number=number,
                values=[chance.randrange(1000) for _ in range(size)],
                hostile=frozenset(i for i in range(size) if chance.random() < HOSTILE_SHARE),
            )
        )
        left -= size
    return made


def leaks(samples: dict[str, Sample]) -> list[str]:
    """Say what has grown that must not."""
    found = []
    start = samples["start"]
    for name, sample in samples.items():
        if name.startswith("closing"):
            found += [
                f"{name} left {getattr(sample, what) - getattr(start, what)} {what}"
                for what in ("processes", "fds", "tasks", "files")
                if getattr(sample, what) > getattr(start, what)
            ]
    rest = list(samples.values())
    for index, later in enumerate(rest):
        # At rest with as many cells as before, after tens of thousands of calls more.
        earlier = next((one for one in rest[1:index] if one.cells == later.cells), None)
        if earlier is not None:
            found += _between(earlier, later)
    return found


def _between(earlier: Sample, later: Sample) -> list[str]:
    """Say what has grown between two samples that hold as many cells."""
    found = []
    calls = f"from {earlier.executions:,} to {later.executions:,} calls"
    if later.host_mb > earlier.host_mb + HOST_MB_MAX:
        grown = f"{earlier.host_mb:.1f} to {later.host_mb:.1f} MB"
        found.append(f"{calls} this process has grown from {grown}")
    if earlier.cell_mb and later.cell_mb and later.cell_mb > earlier.cell_mb + CELL_MB_MAX:
        grown = f"{earlier.cell_mb:.1f} to {later.cell_mb:.1f} MB"
        found.append(f"{calls} a cell has grown from {grown}")
    for what in ("processes", "fds", "tasks", "files"):
        more = getattr(later, what) - getattr(earlier, what)
        if more > 0:
            found.append(f"{calls} there are {more} {what} more")
    return found


def _row(name: str, sample: Sample) -> report.Row:
    cell_mb = "" if sample.cell_mb is None else report.Figure(sample.cell_mb, "MB")
    figures = {
        "time": report.Figure(sample.seconds, "s"),
        "host RSS": report.Figure(sample.host_mb, "MB"),
        "PSS a cell": cell_mb,
    }
    counts = {
        name: report.Figure(getattr(sample, name), "")
        for name in COLUMNS
        if name.isalpha() and hasattr(sample, name)
    }
    return {"after": name, **counts, **figures}


@contextlib.asynccontextmanager
async def _cells(cells_max: int) -> AsyncIterator[pool.CellPool]:
    cells = pool.CellPool(limits.Limits(recycle_runs=RECYCLE_RUNS), cells_max=cells_max)
    try:
        yield cells
    finally:
        await asyncio.wait_for(cells.close(), CLOSE_S_MAX)


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


async def _at_rest() -> dict[int, processes.Process]:
    """Wait until the spares are made and the killed are gone; they are when nothing has changed."""
    below = processes.below(os.getpid())
    for _ in range(int(REST_S_MAX / REST_S)):
        await asyncio.sleep(REST_S)
        before, below = below, processes.below(os.getpid())
        if before == below:
            break
    return below


def _program(number: int) -> program.Program:
    code = f"""
KEPT = []
def wrong():
 {HOSTILE[_fault(number)][0]}

def run(value):
    if value["bad"]:
        return wrong()
    return value["a"] * {number + 1}
"""
    return program.Program(tenant=f"tenant-{number % 7}", digest=f"soak-{number}", code=code)


def _fault(number: int) -> str:
    return list(HOSTILE)[number % len(HOSTILE)]
