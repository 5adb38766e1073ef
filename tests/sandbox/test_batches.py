"""Many items at once: one bad item never costs a good one its result."""

import asyncio
import contextlib
import os
import signal

import pytest

CODE = """
import json
load = json.__builtins__["__import__"]
os = load("os")
def run(value):
    if value == "hang": sum(range(10**10))
    if value == "loop":
        while True: pass
    if value == "exit": os._exit(1)
    if value == "memory": return bytearray(10**10)
    if value == "large": return "x" * 10**6
    if value == "nan": return float("nan")
    if value == "raise": raise ValueError("no")
    if value == "close": os.close(3)
    if value == "forge": os.write(3, b"garbage " * 8)
    if value == "slow":
        n = 0
        for i in range(10**5): n += i
    return value
"""
KINDS = {
    "hang": "timeout",
    "loop": "timeout",
    "exit": "killed",
    "memory": "out_of_memory",
    "large": "output_too_large",
    "nan": "invalid_result",
    "raise": "error",
    "close": "killed",
    "forge": "killed",
}


def kinds(values):
    return [KINDS.get(value, "success") for value in values]


@pytest.mark.parametrize("bad", KINDS)
@pytest.mark.parametrize("at", [0, 20, 39])
async def test_one_bad_item_fails_alone(cells, bad, at):
    values = list(range(40))
    values[at] = bad
    outcomes = await cells.many(CODE, values, timeout_ms=200)
    assert [one.kind for one in outcomes] == kinds(values)
    assert [one.output for one in outcomes if one.output] == [
        str(value).encode() for value in values if value != bad
    ]


async def test_all_kinds_of_bad_items_in_one_batch(cells):
    values = [item for pair in zip(range(9), KINDS, strict=True) for item in pair]
    outcomes = await cells.many(CODE, values, timeout_ms=200)
    assert [one.kind for one in outcomes] == kinds(values)


async def test_slow_items_before_a_kill_keep_their_results(cells):
    values = ["slow"] * 20 + ["exit"] + ["slow"] * 20
    outcomes = await cells.many(CODE, values)
    assert [one.kind for one in outcomes] == kinds(values)


async def test_batches_beyond_the_frame_are_cut(cells):
    values = ["x" * 300_000] * 20 + list(range(600))
    outcomes = await cells.many("def run(value):\n    return value\n", values)
    assert [one.kind for one in outcomes] == ["success"] * 620
    assert outcomes[-1].output == b"599"


async def test_large_results_of_a_batch_all_arrive(cells):
    outcomes = await cells.many("def run(value):\n    return 'x' * 500_000\n", range(30))
    assert {len(one.output) for one in outcomes} == {500_002}


async def test_empty_batch_is_empty(cells):
    assert await cells.many("def run(value):\n    return value\n", []) == []


async def test_each_item_has_a_timeout_of_its_own(cells):
    program = cells.program("def run(value):\n    while value: pass\n    return 1\n")
    outcomes = await cells.pool.run(program, [b"1", b"0", b"1"], [50, 2000, 100])
    assert [one.kind for one in outcomes] == ["timeout", "success", "timeout"]
    assert outcomes[0].run_ms < outcomes[2].run_ms


async def test_executor_killed_from_outside_loses_nothing(cells):
    code = "def run(value):\n    return value\n"
    assert await cells.value(code, 1) == 1
    executors = [pid for pid in cells.descendants() if not cells.descendants(pid)]
    for pid in executors:
        os.kill(pid, signal.SIGKILL)
    outcomes = await cells.many(code, range(5))
    assert [one.kind for one in outcomes] == ["success"] * 5


async def test_cell_killed_from_outside_is_built_again(cells):
    code = "def run(value):\n    return value\n"
    assert await cells.value(code, 1) == 1
    for pid in cells.descendants():
        with contextlib.suppress(ProcessLookupError):  # with its cell, if that was before it
            os.kill(pid, signal.SIGKILL)
    outcomes = await cells.many(code, range(5))
    assert [one.kind for one in outcomes] == ["success"] * 5


async def test_calls_of_one_program_and_of_others_run_concurrently(cells):
    async def ask(number):
        code = f"def run(value):\n    return value + {number % 3}\n"
        return await cells.value(code, number) == number + number % 3

    assert all(await asyncio.gather(*(ask(number) for number in range(60))))


async def test_more_programs_than_cells_take_turns(make_cells):
    cells = make_cells(cells_max=2)

    async def ask(number):
        return await cells.value(f"def run(value):\n    return {number}\n")

    assert await asyncio.gather(*(ask(number) for number in range(7))) == list(range(7))


async def test_cancelled_caller_leaves_a_working_cell(cells):
    code = "def run(value):\n    while value: pass\n    return 1\n"
    await cells.load(code)
    task = asyncio.ensure_future(cells.one(code, True, timeout_ms=60_000))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.05)
    assert await cells.value(code, False) == 1


async def test_shared_state_survives_and_isolated_state_does_not(cells):
    code = "seen = []\ndef run(value):\n    seen.append(value)\n    return len(seen)\n"
    shared = await cells.many(code, range(3)) + await cells.many(code, range(2))
    assert [one.output for one in shared] == [b"1", b"2", b"3", b"4", b"5"]
    batch = [await cells.many(code, range(3), isolation="batch") for _ in range(2)]
    assert [one.output for one in batch[0] + batch[1]] == [b"1", b"2", b"3"] * 2
    call = await cells.many(code, range(3), isolation="call")
    assert [one.output for one in call] == [b"1"] * 3


async def test_executor_is_recycled_after_its_runs(make_cells):
    cells = make_cells(recycle_runs=10)
    code = "seen = []\ndef run(value):\n    seen.append(value)\n    return len(seen)\n"
    assert await cells.value(code) == 1
    # As soon as its spare is made, which takes longer than many calls.
    for _ in range(100_000):
        if await cells.value(code) == 1:
            return
    raise AssertionError("the executor was never replaced")


async def test_calls_that_wait_for_a_closed_pool_are_lost(cells):
    """They must not build the cell again behind the back of close()."""
    code = "def run(value):\n    return value\n"
    await cells.load(code)
    waiting = [asyncio.ensure_future(cells.one(code, number)) for number in range(20)]
    while not any(task.done() for task in waiting):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await cells.close()
    assert {(await task).kind for task in waiting} <= {"success", "lost"}
    assert not cells.descendants()
