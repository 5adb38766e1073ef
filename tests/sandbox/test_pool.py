"""The cells of a worker together: which are kept, for how much memory, and what is counted."""

import asyncio

import pytest

from loopai.sandbox import memory
from tests.wait import until

ECHO = "def run(value):\n    return value\n# {}\n"


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_memory_of_cells_is_that_of_their_processes(cells, language):
    code = (
        "def run(value): return value" if language == "python" else "const run = (value) => value"
    )
    before = cells.pool.memory_bytes()
    await cells.value(code, 1, language=language)
    found = cells.pool.memory_bytes()
    assert before == 0
    assert 5 * 2**20 < found < 300 * 2**20


async def test_cells_beyond_the_budget_are_closed_the_oldest_first(make_cells):
    cells = make_cells(cells_max=8)
    codes = [ECHO.format(number) for number in range(3)]
    for code in codes:
        await cells.value(code, 1)
    assert cells.pool.cells == 3
    cells.pool._memory_bytes_max = 1
    await until(lambda: cells.pool.cells == 0)
    assert cells.pool.statistics.evictions == 3
    assert await cells.value(codes[0], 2) == 2


async def test_cell_in_use_is_kept_whatever_it_takes(make_cells):
    cells = make_cells(pool_memory_bytes_max=1)
    slow = "def run(value):\n    while value: pass\n    return 1\n"
    await cells.value(slow, 0)
    running = asyncio.ensure_future(cells.one(slow, 1, timeout_ms=500))
    await until(lambda: cells.pool._cells[next(iter(cells.pool._cells))].users == 1)
    await cells.pool._rounds.weigh([])
    await cells.pool._keep_within_memory()
    assert cells.pool.weight_bytes > 1
    assert cells.pool.cells == 1
    assert (await running).kind == "timeout"


async def test_what_cells_do_is_counted(cells):
    code = "def run(value):\n    while value == 'loop': pass\n    return value\n"
    counted = cells.pool.statistics
    assert await cells.value(code, 1) == 1
    assert (counted.hits, counted.misses) == (0, 1)
    await cells.many(code, [1, 2, "loop"], timeout_ms=50)
    assert await cells.value(code, 1) == 1
    await until(lambda: counted.executors_started == 3)  # it, its spare, and the next one's
    assert counted.hits == 2
    assert counted.outcomes == {"success": 4, "timeout": 1}
    assert counted.kills["timeout"] == 1
    assert counted.waiting == 0


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("import_('os')._exit(0)", "exited"),
        ("import_('os').write(3, bytes(100))", "tampered"),
        ("bytes(10**10)", "out_of_memory"),
        ("list(iter(int, 1))", "timeout"),
    ],
)
async def test_kills_are_counted_by_their_cause(cells, body, cause):
    code = f"import json\nimport_ = json.__builtins__['__import__']\ndef run(value):\n    {body}\n"
    await cells.one(code, timeout_ms=100 if cause == "timeout" else 5_000)
    assert cells.pool.statistics.kills[cause] >= 1


async def test_isolated_calls_are_counted_as_such(cells):
    await cells.many(ECHO, [1, 2, 3], isolation="call")
    assert cells.pool.statistics.kills == {"isolated": 3}


async def test_blank_cell_serves_the_next_program(cells):
    await cells.value(ECHO.format("first"), 1)
    blank = cells.pool._blanks["python"]
    await blank
    await cells.value(ECHO.format("second"), 1)
    assert cells.pool.statistics.blanks_used == 1


async def test_dropped_cell_leaves_room_and_no_process(cells):
    await cells.value(ECHO, 1)
    before = cells.descendants()
    await cells.pool.drop(cells.program(ECHO))
    assert cells.pool.cells == 0
    assert cells.descendants() < before
    await cells.pool.drop(cells.program(ECHO))


async def test_ended_process_takes_no_memory():
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    assert memory.used([process.pid]) == 0
