"""What a cell costs, beside a process for each call, with and without bubblewrap.

All are measured in turn, A B A B, so that a machine that gets slower meanwhile does so for all.

CPU time of a call is that of this process and of all processes of its cells: user and system time
by /proc/PID/stat before and after a window, with that of children that ended in between, which the
kernel adds to those of init. The time in which neither runs is nobody's. Of a process for each call
it is this process's and that of the children it waited for.

Memory of a cell is PSS, which splits a page between all processes that have it mapped: bubblewrap,
init, executors of one cell, and the files of the interpreter between all that run it on
this machine. So several cells take less each than one. What is anonymous is the cell's alone.
"""

import asyncio
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import uvloop

from bench import processes, report
from loopai.sandbox import (
    bubblewrap,
    enclosure,
    executor,
    limits,
    outcome,
    pool,
    program,
    rounds,
    runtimes,
)
from loopai.sandbox.runtimes import runtime
from streams import messages

CODE = "def run(value):\n    return value['a'] + 1\n"
JAVASCRIPT = "export function run(value) { return value.a + 1; }\n"
HANGS_IN_C = "def run(value):\n    if value: sum(range(10**10))\n    return 0\n"
JAVASCRIPT_HANGS = "export function run(value) { while (value === 1); return 0; }\n"
HANGS = "def run(value):\n    while value: pass\n    return 0\n"
INPUT = b'{"a":1}'
TIMEOUT_MS = 1_000.0
SHORT_TIMEOUT_MS = 20.0
BATCHES = (1, 16, 64, 256)
ROUNDS = 5
WINDOW_S = 0.4
PROCESSES_A_ROUND = 8
COLD_STARTS_A_ROUND = 3
SPARES_A_ROUND = 10
KILLS_A_ROUND = 6
NEIGHBOURS = 8
SPARE_MADE_S = 0.5
REST_S = limits.Limits().rest_s + 2 * rounds.LOOK_S

ALONE = "(a) a subprocess for each call"
WRAPPED = "(b) the same in bubblewrap"
COLUMNS = ("what", "p50", "p99", "a second", "a core-second", "times (a)", "target", "holds")

# The targets of the sandbox.
WARM_P50_S_MAX = 100e-6
WARM_P99_S_MAX = 1e-3
CORE_RATE_MIN = 80_000
SPARE_S_MAX = 3e-3
LATE_S_MAX = 10e-3
CELL_MB_MAX = 20
TIMES_MIN = 300

_ONE_CALL = f"import json, sys\n{CODE}\nprint(json.dumps(run(json.loads(sys.stdin.read()))))"


class Sample(msgspec.Struct):
    """Calls of one kind over all rounds."""

    items: int = 1
    seconds: list[float] = msgspec.field(default_factory=list)
    elapsed_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) * self.items / self.elapsed_s

    @property
    def core_rate(self) -> float:
        return len(self.seconds) * self.items / self.cpu_s

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


def measure() -> report.Report:
    """Measure cells and processes in turn; takes about half a minute."""
    rows = uvloop.run(_measure())
    return report.Report(title="cells", columns=COLUMNS, rows=rows, panels=[_panel(rows)])


def _panel(rows: Sequence[report.Row]) -> report.Panel:
    rates = {
        row["what"]: rate.value
        for row in rows
        if isinstance(rate := row.get("a core-second"), report.Figure)
    }
    names = {language: f"{language}, warm, batch of {{}}" for language in ("python", "javascript")}
    alone = {"a subprocess for each call": ALONE, "the same in bubblewrap": WRAPPED}
    return report.Panel(
        title="executions a core-second (more is better)",
        axis="calls in a batch",
        groups=[f"{size}" for size in BATCHES],
        logarithmic=True,
        series=[
            *(
                report.Series(
                    name=f"{language}, warm cell",
                    role="ours",
                    values=[rates.get(name.format(size)) for size in BATCHES],
                )
                for language, name in names.items()
            ),
            *(
                report.Series(name=name, values=[rates.get(row), *[None] * (len(BATCHES) - 1)])
                for name, row in alone.items()
            ),
        ],
    )


async def _measure() -> list[report.Row]:
    found = await runtimes.discover("python")
    cold, made, first, hard, soft, after = (Sample() for _ in range(6))
    warm = {size: Sample(items=size) for size in BATCHES}
    alone, wrapped = Sample(), Sample()
    alone_argv = [sys.executable, "-I", "-S", "-c", _ONE_CALL]
    wrapped_argv = _wrapped(found)
    async with _cells(4) as cells:
        for _ in range(ROUNDS):
            for _ in range(COLD_STARTS_A_ROUND):
                await _cold(found, _program(CODE), cold)
            await _spares(found, made, first)
            for sample in warm.values():
                await _calls(cells, _program(CODE), sample)
            _processes(alone_argv, alone)
            _processes(wrapped_argv, wrapped)
            await _kills(cells, HANGS_IN_C, hard, after)
            await _kills(cells, HANGS, soft, Sample())
    return [
        _row("python, cold cell: bubblewrap to first result", cold),
        _row("make a spare: fork, harden, load", made),
        _row("spare to first result", first, _at_most("p50", SPARE_S_MAX, first.p50)),
        *(_warm_row(sample, alone) for sample in warm.values()),
        _late_row("loop: answer after its deadline", soft),
        _late_row("loop in C: answer after its deadline", hard),
        _row("python, kill to the next answer", after),
        *await _memory(CODE, "python"),
        *await _javascript(alone),
        _row(ALONE, alone) | _rates(alone, alone),
        _row(WRAPPED, wrapped) | _rates(wrapped, alone),
    ]


def _row(name: str, sample: Sample, target: report.Row | None = None) -> report.Row:
    p50, p99 = report.Figure(sample.p50, "s"), report.Figure(sample.p99, "s")
    return {"what": name, "p50": p50, "p99": p99, **(target or {})}


def _warm_row(sample: Sample, alone: Sample, language: messages.Language = "python") -> report.Row:
    target: report.Row = {}
    if sample.items == 1:
        holds = sample.p50 <= WARM_P50_S_MAX and sample.p99 <= WARM_P99_S_MAX
        target = _target("p50 ≤ 100 µs, p99 ≤ 1 ms", holds=holds)
    elif sample.items == 64:
        holds = sample.core_rate >= CORE_RATE_MIN and sample.rate >= TIMES_MIN * alone.rate
        wanted = f"≥ {CORE_RATE_MIN:,} a core-second, {TIMES_MIN} (a)"
        target = _target(wanted, holds=holds)
    row = _row(f"{language}, warm, batch of {sample.items}", sample, target)
    return {**row, **_rates(sample, alone)}


def _rates(sample: Sample, alone: Sample) -> dict[str, report.Figure]:
    return {
        "a second": report.Figure(sample.rate, "a second"),
        "a core-second": report.Figure(sample.core_rate, "a second"),
        "times (a)": report.Figure(sample.rate / alone.rate, "times"),
    }


def _late_row(name: str, sample: Sample) -> report.Row:
    return _row(name, sample, _at_most("worst", LATE_S_MAX, max(sample.seconds)))


def _at_most(what: str, bound_s: float, value_s: float) -> report.Row:
    return _target(f"{what} ≤ {report.Figure(bound_s, 's')}", holds=value_s <= bound_s)


def _target(wanted: str, *, holds: bool) -> dict[str, str]:
    return {"target": wanted, "holds": "yes" if holds else "NO"}


@contextlib.asynccontextmanager
async def _cells(cells_max: int) -> AsyncIterator[pool.CellPool]:
    cells = pool.CellPool(limits.Limits(), cells_max=cells_max)
    try:
        yield cells
    finally:
        await cells.close()


def _program(
    code: str, number: str = "", language: messages.Language = "python"
) -> program.Program:
    digest = f"{hash(code):x}{number}"
    return program.Program(tenant="bench", digest=digest, code=code, language=language)


async def _calls(
    cells: pool.CellPool, one: program.Program, sample: Sample, window_s: float = WINDOW_S
) -> None:
    """Call for one window, a batch at a time."""
    inputs, timeouts = [INPUT] * sample.items, [TIMEOUT_MS] * sample.items
    _expect(await cells.run(one, inputs, timeouts))
    cpu_s, started = _cpu_s(), time.perf_counter()
    ended = started
    while ended - started < window_s:
        begun = time.perf_counter()
        outcomes = await cells.run(one, inputs, timeouts)
        ended = time.perf_counter()
        sample.seconds.append(ended - begun)
        _expect(outcomes)
    sample.elapsed_s += ended - started
    sample.cpu_s += _cpu_s() - cpu_s


def _cpu_s() -> float:
    below = processes.below(os.getpid()).values()
    return time.process_time() + sum(process.cpu_s for process in below)


def _expect(outcomes: Sequence[outcome.Outcome]) -> None:
    for one in outcomes:
        if one.kind != "success":
            raise RuntimeError(f"not a success: {one}")


async def _cold(found: runtime.Runtime, one: program.Program, sample: Sample) -> None:
    begun = time.perf_counter()
    opened = await enclosure.Enclosure.open(found, limits.Limits())
    held = await executor.Executor.open(opened, one, limits.Limits())
    await held.run([INPUT], [1.0])
    sample.seconds.append(time.perf_counter() - begun)
    held.close()
    await opened.close()


async def _spares(found: runtime.Runtime, made: Sample, first: Sample) -> None:
    opened = await enclosure.Enclosure.open(found, limits.Limits())
    for _ in range(SPARES_A_ROUND):
        begun = time.perf_counter()
        held = await executor.Executor.open(opened, _program(CODE), limits.Limits())
        loaded = time.perf_counter()
        await held.run([INPUT], [1.0])
        made.seconds.append(loaded - begun)
        first.seconds.append(time.perf_counter() - loaded)
        held.close()
    await opened.close()


async def _kills(cells: pool.CellPool, code: str, late: Sample, after: Sample) -> None:
    """How long after its deadline a call that hangs is answered, and the next one after that."""
    one = _program(code)
    _expect(await cells.run(one, [b"0"], [TIMEOUT_MS]))
    for _ in range(KILLS_A_ROUND):
        await _kill(cells, one, late, after)


async def _kill(cells: pool.CellPool, one: program.Program, late: Sample, after: Sample) -> None:
    begun = time.perf_counter()
    (hung,) = await cells.run(one, [b"1"], [SHORT_TIMEOUT_MS])
    killed = time.perf_counter()
    _expect(await cells.run(one, [b"0"], [TIMEOUT_MS]))
    after.seconds.append(time.perf_counter() - killed)
    late.seconds.append(killed - begun - SHORT_TIMEOUT_MS / 1e3)
    if hung.kind != "timeout":
        raise RuntimeError(f"not a timeout: {hung}")


def _wrapped(found: runtime.Runtime) -> list[str]:
    """The cell's own namespaces and mounts around one call."""
    argv = bubblewrap.command(
        bubblewrap.find(),
        found,
        limits.Limits(),
        as_root=bubblewrap.privileged(),
        control_fd=0,
    )
    return [*argv[: argv.index("--") + 1], found.interpreter[0], "-I", "-S", "-c", _ONE_CALL]


def _processes(argv: Sequence[str], sample: Sample) -> None:
    cpu_s, started = _waited_cpu_s(), time.perf_counter()
    for _ in range(PROCESSES_A_ROUND):
        begun = time.perf_counter()
        subprocess.run(argv, input=INPUT, stdout=subprocess.PIPE, check=True)
        sample.seconds.append(time.perf_counter() - begun)
    sample.elapsed_s += time.perf_counter() - started
    sample.cpu_s += _waited_cpu_s() - cpu_s


def _waited_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + used.ru_utime + used.ru_stime


async def _memory(code: str, language: messages.Language) -> list[report.Row]:
    """PSS of a cell on its own and of one among others: bubblewrap, init and executors."""
    rows: list[report.Row] = []
    for count in (1, NEIGHBOURS):
        async with _cells(count) as cells:
            programs = [_program(code, str(number), language) for number in range(count)]
            for one in programs:
                await _calls(cells, one, Sample(items=64), window_s=0.05)
            await asyncio.sleep(0.2)  # the spares load
            rows += _weighed(f"{language}, PSS of a warm cell, {count} at once", count)
            if language == "python":
                continue
            await asyncio.sleep(REST_S)
            rows += _weighed("… after a rest", count)
            for one in programs:
                await _kill(cells, one, Sample(), Sample())
            await asyncio.sleep(REST_S)
            rows += _weighed("… after a kill and another rest", count)
    return rows


def _weighed(name: str, count: int) -> list[report.Row]:
    cell_pids = _cell_pids()
    try:
        total = processes.pss_mb(cell_pids) / count
        anonymous = processes.pss_mb(cell_pids, "Pss_Anon") / count
    except PermissionError:
        return [{"what": name, "p50": "only root may read it"}]
    target = _target(f"≤ {CELL_MB_MAX} MB", holds=total <= CELL_MB_MAX)
    return [
        {"what": name, "p50": report.Figure(total, "MB"), **target},
        {"what": "… of it anonymous", "p50": report.Figure(anonymous, "MB")},
    ]


def _cell_pids() -> list[int]:
    """Processes of all cells with an executor: the blank one that waits for a program is not."""
    found = []
    for child in processes.below(os.getpid()).values():
        if child.parent == os.getpid():
            inner = processes.below(child.pid)
            if len(inner) > 1:
                found += [child.pid, *inner]
    return found


async def _javascript(alone: Sample) -> list[report.Row]:
    if "javascript" not in runtimes.languages():
        return [{"what": "javascript", "p50": "there is no Deno"}]
    cold, late, first, later = Sample(), Sample(), Sample(), Sample()
    warm = [Sample(items=1), Sample(items=64)]
    one = _program(JAVASCRIPT, language="javascript")
    found = await runtimes.discover("deno")
    for _ in range(COLD_STARTS_A_ROUND):
        await _cold(found, one, cold)
    async with _cells(4) as cells:
        for _ in range(ROUNDS):
            for sample in warm:
                await _calls(cells, one, sample)
        for number in range(KILLS_A_ROUND):
            hangs = _program(JAVASCRIPT_HANGS, str(number), "javascript")
            _expect(await cells.run(hangs, [b"0"], [TIMEOUT_MS]))
            await _kill(cells, hangs, late, first)
            await asyncio.sleep(SPARE_MADE_S)
            await _kill(cells, hangs, late, later)
    return [
        _row("javascript, cold cell", cold),
        *(_warm_row(sample, alone, "javascript") for sample in warm),
        _late_row("javascript, loop: answer after its deadline", late),
        _row("javascript, first kill of a cell to the next answer", first),
        _row("javascript, later kill to the next answer", later),
        *await _memory(JAVASCRIPT_HANGS, "javascript"),
    ]
