"""The host's side: what programs and callers can do to the worker, which must not mind."""

import asyncio
import pathlib

import pytest

from loopai.sandbox import frames
from tests.wait import until

PRELUDE = """
import json
load = json.__builtins__["__import__"]
os, struct, sys, signal = map(load, ("os", "struct", "sys", "signal"))

def of_the_runner(name):
    frame = sys._getframe()
    while name not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals[name]

def send(body):
    nonce = of_the_runner("nonce")
    data = memoryview(struct.pack("<IQ", len(body), nonce) + body)
    while data:
        data = data[os.write(3, data):]

def text(value):
    data = value.encode()
    return b"\\xdb" + struct.pack(">I", len(data)) + data
"""
ECHO = "def run(value):\n    return value\n"


def fds_open():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def hostile(body):
    return f"{PRELUDE}\ndef run(value):\n    if not value: return 'sane'\n    {body}\n"


@pytest.mark.parametrize(
    "reply",
    [
        r"b'\x91\x96\x00\x01\xc4\x011\xa0\xa0' + text('x' * 100_000)",  # stdout
        r"b'\x91\x96\x01\x01\xc4\x00\xa0' + text('x' * 100_000) + b'\xa0'",  # message
        r"b'\x91\x96\x01\x01\xc4\x00' + text('x' * 100_000) + b'\xa0\xa0'",  # type
        r"b'\x91\x98\x01\x01\xc4\x00\xa0\xa0\xa0\x00' + text('x' * 100_000)",  # traceback
        r"b'\x91\x98\x01\x01\xc4\x00\xa0\xa0\xa0\xcf' + b'\xff' * 8 + b'\xa0'",  # line
        r"b'\x92' + b'\x93\x00\x01\xc4\x017' * 2",  # two results for one input
    ],
)
async def test_result_that_no_executor_sends_ends_it(cells, reply):
    outcome = await cells.one(hostile(f"send({reply}); return 1"), 1)
    assert outcome.kind == "killed", outcome


@pytest.mark.parametrize("isolation", ["shared", "call"])
async def test_program_that_lies_about_what_runs_is_blamed_and_not_lost(cells, isolation):
    body = """struct.pack_into("<Q", of_the_runner("self")._page, 0, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True: pass"""
    outcome = await cells.one(hostile(body), 1, timeout_ms=100, isolation=isolation)
    assert outcome.kind == "timeout"


async def test_program_that_claims_the_last_item_is_given_up_before_long(cells):
    """Every kill is blamed on the item that it claims to run: after a few it goes one by one."""
    body = """page = of_the_runner("page")
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True: struct.pack_into("<qd", page, 8, len(of_the_runner("inputs")) - 1, 1e12)"""
    outcomes = await cells.many(hostile(body), [1] * 12, timeout_ms=20)
    assert {one.kind for one in outcomes} == {"timeout"}
    assert cells.pool.statistics.kills["timeout"] <= 12 + 4


async def test_program_that_goes_on_after_its_answer_is_ended(cells):
    body = """def forever(self):
        while True: pass
    type(of_the_runner("self"))._receive = forever
    return 1"""
    code = hostile(body)
    assert await cells.value(code, 1) == 1
    await until(lambda: cells.pool.statistics.kills["idle"] == 1)
    assert await cells.value(code, 0) == "sane"


async def test_idle_cells_are_left_alone(cells):
    await cells.value(ECHO, 1)
    entry = next(iter(cells.pool._cells.values()))
    for _ in range(3):
        entry.cell.end_the_busy()
    assert cells.pool.statistics.kills == {}


async def test_others_get_their_turns_while_large_results_are_checked(cells):
    code = "VALUE = [[]] * 100_000\ndef run(value):\n    return VALUE\n"
    turns = 0

    async def other():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    await cells.value(code, 1)
    before = cells.pool.statistics.outcomes.total()
    running = asyncio.create_task(other())
    await cells.many(code, [1] * 16, timeout_ms=5_000)
    running.cancel()
    assert cells.pool.statistics.outcomes.total() == before + 16
    assert turns > 16


async def test_caller_that_goes_as_the_spare_is_made_leaves_nothing(cells):
    code = "def run(value):\n    while not value: pass\n    return value\n"
    await cells.value(code, 1)
    cell = next(iter(cells.pool._cells.values())).cell
    # Both open descriptors as they are made: count when they are.
    await asyncio.wait({cell._spare, *cells.pool._blanks.values()})
    fds = fds_open()
    processes = len(cells.descendants())
    for _ in range(5):
        cell._retire("closed")
        cell._spare.result().close()
        cell._spare = asyncio.create_task(cell._spawn())
        caller = asyncio.ensure_future(cells.one(code, 1))
        cell._spare.add_done_callback(lambda _, caller=caller: caller.cancel())
        await asyncio.wait({caller})
        assert await cells.value(code, 1) == 1
        await asyncio.wait({cell._spare})
    await until(lambda: len(cells.descendants()) == processes)
    await until(lambda: fds_open() == fds)


async def test_caller_that_goes_in_its_turn_does_not_take_it_with_it(make_cells):
    cells = make_cells(cells_max=1)
    first, second, third = (ECHO + f"# {number}\n" for number in range(3))
    slow = "def run(value):\n    while value: pass\n    return 0\n"
    await cells.value(slow, 0)
    running = asyncio.ensure_future(cells.one(slow, 1, timeout_ms=100))
    await until(lambda: next(iter(cells.pool._cells.values())).users == 1)
    leaving = asyncio.ensure_future(cells.one(second, 1))
    staying = asyncio.ensure_future(cells.value(third, 3))
    running.add_done_callback(lambda _: leaving.cancel())
    async with asyncio.timeout(15):
        assert await staying == 3
    await asyncio.wait({leaving, running})
    assert await cells.value(first, 1) == 1


async def test_blank_that_failed_is_made_anew(cells):
    await cells.value(ECHO, 1)
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(OSError(24, "too many open files"))
    before = cells.pool._blanks.pop("python")
    await asyncio.wait({before})
    cells.pool._blanks["python"] = asyncio.ensure_future(failed)
    assert await cells.value(ECHO + "# another", 2) == 2
    await before.result().close()


def test_numbers_of_a_result_are_bounded():
    with pytest.raises(frames.TamperError):
        frames.decode(memoryview(b"\x91\x93\x09\x01\xc4\x011"), text_bytes_max=100)


async def test_timeout_beyond_an_hour_is_refused(cells):
    with pytest.raises(ValueError, match="at most"):
        await cells.one(ECHO, 1, timeout_ms=1e15)
