"""What a cell costs, beside a process for each call: `python -m bench.sandbox`.

The two are measured in turn, A B A B, and medians are shown, so that a machine that gets slower
meanwhile does so for both.
"""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import uvloop
from rich import console, table

from loopai.sandbox import bubblewrap, enclosure, executor, limits, pool, program

CODE = "def run(value):\n    return value['a'] + 1\n"
INPUT = b'{"a":1}'
TIMEOUT_MS = 1_000.0
BATCHES = (1, 16, 64, 256)
ROUNDS = 5
CALLS_A_ROUND = 400
PROCESSES_A_ROUND = 5
COLD_STARTS = 5
SPARES = 30

_PROCESS = f"import json, sys\n{CODE}\nprint(json.dumps(run(json.loads(sys.stdin.read()))))"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    seconds: Sequence[float]
    items: int = 1


def main() -> None:
    """Measure and print one table; takes about half a minute."""
    rows = uvloop.run(_measure())
    shown = table.Table("what", "p50", "p99", "executions/s", title="cells")
    for row in rows:
        p50 = statistics.median(row.seconds)
        p99 = sorted(row.seconds)[int(len(row.seconds) * 0.99)]
        shown.add_row(row.name, _time(p50), _time(p99), f"{row.items / p50:,.0f}")
    console.Console().print(shown)
    per_call, batch = rows[-1], next(row for row in rows if row.items == 64)
    gain = statistics.median(per_call.seconds) * batch.items / statistics.median(batch.seconds)
    print(f"a batch of 64 runs {gain:,.0f} times the executions of a process for each call")


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.0f} µs"


async def _measure() -> list[Row]:
    rows = [
        Row(name="cold: bubblewrap to first result", seconds=await _cold()),
        *await _spares(),
    ]
    warm: dict[int, list[float]] = {size: [] for size in BATCHES}
    processes: list[float] = []
    async with _cells() as cells:
        for _ in range(ROUNDS):
            for size in BATCHES:
                warm[size] += await _calls(cells, size)
            processes += [_process() for _ in range(PROCESSES_A_ROUND)]
        killed = await _kills(cells)
    rows += [
        Row(name=f"warm, batch of {size}", seconds=seconds, items=size)
        for size, seconds in warm.items()
    ]
    rows.append(Row(name="hard kill at 20 ms, next answer", seconds=killed))
    rows.append(Row(name="a process for each call, no sandbox", seconds=processes))
    return rows


@contextlib.asynccontextmanager
async def _cells() -> AsyncIterator[pool.CellPool]:
    cells = pool.CellPool(limits.Limits(), cells_max=4)
    try:
        yield cells
    finally:
        await cells.close()


async def _calls(cells: pool.CellPool, size: int) -> list[float]:
    one = program.Program(tenant="bench", digest="trivial", code=CODE)
    inputs, timeouts = [INPUT] * size, [TIMEOUT_MS] * size
    seconds = []
    for _ in range(max(CALLS_A_ROUND // size, 20)):
        begun = time.perf_counter()
        outcomes = await cells.run(one, inputs, timeouts)
        seconds.append(time.perf_counter() - begun)
        if any(outcome.kind != "success" for outcome in outcomes):
            raise RuntimeError(f"not a success: {outcomes[0]}")
    return seconds


async def _cold() -> list[float]:
    seconds = []
    interpreter = await bubblewrap.discover()
    for _ in range(COLD_STARTS):
        begun = time.perf_counter()
        opened = await enclosure.Enclosure.open(interpreter, limits.Limits())
        held = await executor.Executor.open(opened, CODE, limits.Limits())
        await held.run([INPUT], [1.0])
        seconds.append(time.perf_counter() - begun)
        held.close()
        await opened.close()
    return seconds


async def _spares() -> list[Row]:
    made, first = [], []
    opened = await enclosure.Enclosure.open(await bubblewrap.discover(), limits.Limits())
    for _ in range(SPARES):
        begun = time.perf_counter()
        held = await executor.Executor.open(opened, CODE, limits.Limits())
        loaded = time.perf_counter()
        await held.run([INPUT], [1.0])
        made.append(loaded - begun)
        first.append(time.perf_counter() - loaded)
        held.close()
    await opened.close()
    return [
        Row(name="make a spare: fork, harden, load", seconds=made),
        Row(name="spare to first result", seconds=first),
    ]


async def _kills(cells: pool.CellPool) -> list[float]:
    code = "def run(value):\n    if value: sum(range(10**10))\n    return 0\n"
    one = program.Program(tenant="bench", digest="hangs", code=code)
    await cells.load(one)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        await cells.run(one, [b"1", b"0"], [20.0, TIMEOUT_MS])
        seconds.append(time.perf_counter() - begun)
    return seconds


def _process() -> float:
    begun = time.perf_counter()
    argv = [sys.executable, "-I", "-S", "-c", _PROCESS]
    subprocess.run(argv, input=INPUT, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
