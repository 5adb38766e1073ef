"""When a cell has a spare, and what an executor without one gives back when nobody calls."""

import pathlib
import platform
import re

import pytest

from tests.wait import until

PYTHON = "def run(value):\n    while value == 'loop': pass\n    return value\n"
JAVASCRIPT = "export const run = (value) => { while (value === 'loop'); return value; };"
COUNTS = "let calls = 0; export const run = () => ++calls;"


def only(cells):
    return next(iter(cells.pool._cells.values())).cell


def smaps(pid):
    return pathlib.Path(f"/proc/{pid}/smaps").read_text()


def executors(cells):
    """How many the cell has, beside bubblewrap and init."""
    return len(only(cells).pids) - 2


async def test_javascript_has_its_spare_from_the_first_kill_on(cells):
    started = cells.pool.statistics
    for value in range(3):
        assert await cells.value(JAVASCRIPT, value, language="javascript") == value
    assert (executors(cells), started.executors_started) == (1, 1)
    hung = await cells.one(JAVASCRIPT, "loop", timeout_ms=50, language="javascript")
    assert hung.kind == "timeout"
    assert await cells.value(JAVASCRIPT, 1, language="javascript") == 1
    await until(lambda: executors(cells) == 2)
    for count in (4, 5):
        await cells.one(JAVASCRIPT, "loop", timeout_ms=50, language="javascript")
        assert await cells.value(JAVASCRIPT, 1, language="javascript") == 1
        await until(lambda: executors(cells) == 2)
        assert started.executors_started == count


async def test_rest_of_a_batch_goes_on_after_the_first_kill(cells):
    outcomes = await cells.many(JAVASCRIPT, [1, "loop", 2], timeout_ms=100, language="javascript")
    assert [one.kind for one in outcomes] == ["success", "timeout", "success"]


async def test_javascript_is_recycled_without_a_kill_and_keeps_no_spare(make_cells):
    cells = make_cells(recycle_runs=10)
    assert await cells.value(COUNTS, language="javascript") == 1

    async def anew():
        return await cells.value(COUNTS, language="javascript") == 1

    await until(anew)
    assert cells.pool.statistics.kills == {"recycled": 1}
    assert executors(cells) == 1


@pytest.mark.parametrize("isolation", ["batch", "call"])
async def test_isolated_javascript_has_its_spare_at_once(cells, isolation):
    await cells.load(JAVASCRIPT, language="javascript", isolation=isolation)
    await until(lambda: executors(cells) == 2)


async def test_python_has_its_spare_at_once(cells):
    await cells.load(PYTHON)
    await until(lambda: executors(cells) == 2)


async def test_javascript_gives_back_memory_once_nobody_calls(make_cells):
    """Its state stays: it is the same process."""
    cells = make_cells(rest_s=0.1)
    code = """let calls = 0;
    export const run = () => {
        const made = [];
        for (let n = 0; n < 300_000; n++) made.push({ n });
        return ++calls + 0 * made.length;
    };"""
    for count in (1, 2, 3):
        assert await cells.value(code, language="javascript") == count
    held = cells.pool.memory_bytes()
    await until(lambda: cells.pool.memory_bytes() < held - 10 * 2**20)
    assert await cells.value(code, language="javascript") == 4
    assert cells.pool.statistics.kills == {}


async def test_javascript_that_rests_has_no_spare_until_the_next_kill(make_cells):
    cells = make_cells(rest_s=1)
    for _ in range(2):
        await cells.one(JAVASCRIPT, "loop", timeout_ms=50, language="javascript")
        assert await cells.value(JAVASCRIPT, 1, language="javascript") == 1
        await until(lambda: executors(cells) == 2)
        await until(lambda: executors(cells) == 1)
        assert await cells.value(JAVASCRIPT, 2, language="javascript") == 2
        assert executors(cells) == 1
    assert cells.pool.statistics.kills == {"timeout": 2}


async def test_isolated_javascript_that_rests_keeps_its_spare(make_cells):
    cells = make_cells(rest_s=0)
    await cells.load(JAVASCRIPT, language="javascript", isolation="batch")
    await until(lambda: executors(cells) == 2)
    assert await only(cells).rest()
    assert executors(cells) == 2


async def test_program_has_no_part_in_a_rest(make_cells):
    """The collector's options are read from no object that a program can reach."""
    cells = make_cells(rest_s=0)
    code = """for (const name of ["type", "execution", "flavor", "filename"]) {
        Object.defineProperty(Object.prototype, name, { get() { for (;;); } });
    }
    let calls = 0;
    export const run = () => [typeof gc, ++calls];"""
    assert await cells.value(code, language="javascript") == ["undefined", 1]
    await only(cells).rest()
    assert await cells.value(code, language="javascript") == ["undefined", 2]
    assert cells.pool.statistics.kills == {}


async def test_a_page_of_deno_is_mapped_when_it_is_needed_and_no_other(cells):
    """The kernel says so of each mapping: `uw` (proc_pid_smaps(5))."""
    major, minor, *_ = platform.release().split(".")
    if (int(major), int(minor)) < (6, 7):
        pytest.skip("from Linux 6.7 on")
    await cells.load(JAVASCRIPT, language="javascript")
    try:
        text = smaps(only(cells).pids[-1])
    except PermissionError:
        pytest.skip("only root may read it")
    code = re.findall(r" r-xp .*/deno\nSize: +(\d+) kB\n(?:\w+: .*\n)*?VmFlags: (.*)\n", text)
    # Its last page is another's too.
    _, flags = max(code, key=lambda mapping: int(mapping[0]))
    assert "uw" in flags.split()
