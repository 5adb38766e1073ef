"""Items that are called back: not run, or ended at once, and never at the cost of others."""

import asyncio
import random
import time

import msgspec
import pytest

from loopai.sandbox import recall
from tests.wait import until

CODE = """
load = __import__("json").__builtins__["__import__"]
time = load("time")
def run(value):
    if value == "loop":
        while True: pass
    if value == "sum": sum(range(10**12))
    if value == "nap": time.sleep(0.05)
    return value
"""
LIAR = """
load = __import__("json").__builtins__["__import__"]
signal, struct, sys = map(load, ("signal", "struct", "sys"))
def page():
    frame = sys._getframe()
    while "page" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["page"]
def run(value):
    if value == "hide":
        while True: struct.pack_into("<Q", page(), 0, 0)
    if value == "claim":
        signal.setitimer(signal.ITIMER_REAL, 0)
        while True: struct.pack_into("<q", page(), 8, 2)
    return value
"""
SCRIPT = "export function run(value) { while (value === 'loop'); return value; }"
LONG_MS = 60_000.0


class Call:
    """A call under way whose items can be called back."""

    def __init__(self, cells, code, values, timeout_ms=LONG_MS, **kind):
        self.recalled = recall.Recall()
        inputs = [msgspec.json.encode(value) for value in values]
        program = cells.program(code, **kind)
        timeouts = [timeout_ms] * len(inputs)
        self._task = asyncio.ensure_future(cells.pool.run(program, inputs, timeouts, self.recalled))
        self._cells = cells

    async def runs(self, index):
        """Return once item *index* is the one that runs."""

        def at():
            for entry in self._cells.pool._cells.values():
                if entry.cell._frame is not None:
                    executor, sent = entry.cell._frame
                    served = entry.cell._turns._served
                    first = served[0].first if served else 0
                    running = executor._channel._running(time.monotonic())
                    return running is not None and first + sent[running[0]] == index
            return False

        await until(at)

    async def ended(self):
        async with asyncio.timeout(15):
            return await self._task


def kinds(outcomes):
    return [one.kind for one in outcomes]


@pytest.mark.parametrize("endless", ["loop", "sum"])
@pytest.mark.parametrize("at", [0, 3, 6])
async def test_running_item_is_ended_and_its_neighbours_are_answered(cells, endless, at):
    """Whether it listens to the soft deadline or not, and wherever it stands in its batch."""
    values = list(range(7))
    values[at] = endless
    call = Call(cells, CODE, values)
    await call.runs(at)
    call.recalled.add(at)
    outcomes = await call.ended()
    assert kinds(outcomes) == ["success"] * at + ["cancelled"] + ["success"] * (6 - at)
    assert outcomes[at].message == "cancelled while it ran"
    assert outcomes[at].run_ms < LONG_MS
    assert [one.output for one in outcomes if one.output] == [
        b"%d" % n for n in range(7) if n != at
    ]
    assert cells.pool.statistics.kills["cancelled"] == 1
    assert cells.pool.statistics.outcomes["cancelled"] == 1
    assert await cells.value(CODE, "again") == "again"


@pytest.mark.parametrize("isolation", ["shared", "batch", "call"])
async def test_what_is_recalled_before_the_call_is_not_run(cells, isolation):
    """Nothing is killed for it, and nothing waits for it."""
    call = Call(cells, CODE, ["loop", 1, "loop", 2, "loop"], isolation=isolation)
    for index in (0, 2, 4):
        call.recalled.add(index)
    outcomes = await call.ended()
    assert kinds(outcomes) == ["cancelled", "success", "cancelled", "success", "cancelled"]
    assert outcomes[0].message == "cancelled before it ran"
    assert cells.pool.statistics.kills["cancelled"] == 0


async def test_call_that_is_recalled_whole_needs_no_cell(cells):
    """No executor is made for what nobody wants."""
    call = Call(cells, CODE, ["loop", "loop"])
    call.recalled.add(0)
    call.recalled.add(1)
    assert kinds(await call.ended()) == ["cancelled"] * 2
    assert cells.pool.statistics.executors_started == 0


async def test_item_that_has_not_begun_is_ended_when_it_does(cells):
    """It is in the frame already: noticed as soon as its turn has come."""
    call = Call(cells, CODE, ["nap", "nap", "loop", "nap"])
    await call.runs(0)
    call.recalled.add(2)
    assert kinds(await call.ended()) == ["success", "success", "cancelled", "success"]
    assert cells.pool.statistics.kills["cancelled"] == 1


async def test_item_that_has_ended_keeps_its_result(cells):
    """Recalled too late is not recalled; the rest goes on undisturbed."""
    call = Call(cells, CODE, [*["nap"] * 4, "loop"])
    await call.runs(4)
    call.recalled.add(0)
    call.recalled.add(4)
    assert kinds(await call.ended()) == ["success"] * 4 + ["cancelled"]
    assert cells.pool.statistics.kills["cancelled"] == 1


async def test_item_behind_another_call_is_not_run(cells):
    """A call that waits for its turn hears of it when that comes."""
    first = Call(cells, CODE, ["loop"])
    await first.runs(0)
    second = Call(cells, CODE, ["loop", "b"])
    await until(lambda: cells.pool.statistics.waiting == 1)
    second.recalled.add(0)
    first.recalled.add(0)
    assert kinds(await first.ended()) == ["cancelled"]
    assert kinds(await second.ended()) == ["cancelled", "success"]
    assert cells.pool.statistics.kills["cancelled"] == 1


async def test_whole_batch_recalled_at_once_ends_with_one_kill(cells):
    """What has not begun goes with the one that runs."""
    call = Call(cells, CODE, ["loop"] * 50)
    await call.runs(0)
    for index in range(50):
        call.recalled.add(index)
    assert kinds(await call.ended()) == ["cancelled"] * 50
    assert cells.pool.statistics.kills["cancelled"] == 1


@pytest.mark.parametrize("isolation", ["shared", "batch", "call"])
async def test_recalls_at_any_moment_concern_nobody_else(cells, isolation):
    """Whenever they come: every item ends once, right or recalled, and no loop goes on."""
    chance = random.Random(16)  # noqa: S311 (repeatable, not secret)
    for _ in range(8):
        values = [chance.choice(["loop", "sum", number, number]) for number in range(12)]
        call = Call(cells, CODE, values, isolation=isolation)
        unwanted = {n for n, value in enumerate(values) if isinstance(value, str)}
        unwanted |= set(chance.sample(range(12), 3))
        if chance.random() < 0.7 and not set(values).isdisjoint({"loop", "sum"}):
            await call.runs(next(n for n, value in enumerate(values) if isinstance(value, str)))
        for index in chance.sample(sorted(unwanted), len(unwanted)):
            for _ in range(chance.choice([0, 1, 10, 1000])):
                await asyncio.sleep(0)
            call.recalled.add(index)
        for index, one in enumerate(await call.ended()):
            if one.kind == "success":
                assert one.output == b"%d" % values[index]
            else:
                assert (one.kind, index in unwanted) == ("cancelled", True), one
    assert cells.pool.statistics.kills["cancelled"] > 0


async def test_javascript_is_recalled_alike(cells):
    """The host ends executors of every runtime in the same way."""
    call = Call(cells, SCRIPT, ["a", "loop", "b"], language="javascript")
    await call.runs(1)
    call.recalled.add(1)
    assert kinds(await call.ended()) == ["success", "cancelled", "success"]


async def test_program_that_hides_what_runs_is_ended_alone_in_its_batch(cells):
    """The progress page says nothing; there is nobody else whom it could be."""
    call = Call(cells, LIAR, ["hide"])
    await until(lambda: cells.pool.statistics.executors_started >= 1)
    call.recalled.add(0)
    assert kinds(await call.ended()) == ["cancelled"]


async def test_program_that_claims_a_recalled_item_costs_it_only_what_nobody_wants(cells):
    """A lie ends what was called back, and puts off the liar's own end to its deadline."""
    call = Call(cells, LIAR, ["a", "claim", "b"], timeout_ms=500)
    await call.runs(2)
    call.recalled.add(2)
    await until(lambda: cells.pool.statistics.kills["cancelled"] == 1)
    await until(lambda: cells.pool.statistics.frames == 2)
    call.recalled.add(1)
    assert kinds(await call.ended()) == ["success", "cancelled", "cancelled"]
    assert cells.pool.statistics.kills["timeout"] == 1


async def test_recalls_of_calls_that_share_a_frame_reach_their_own(cells):
    """Two calls wait for a third and go together: each is called back at the same index."""
    busy = Call(cells, CODE, ["nap"])
    await busy.runs(0)
    first = Call(cells, CODE, [0, 1, "loop"])
    second = Call(cells, CODE, [10, "loop", 12])
    await busy.ended()
    await first.runs(2)
    second.recalled.add(0)
    second.recalled.add(1)
    first.recalled.add(2)
    assert kinds(await first.ended()) == ["success", "success", "cancelled"]
    assert kinds(await second.ended()) == ["cancelled", "cancelled", "success"]


async def test_an_input_that_is_too_large_does_not_shift_what_is_called_back(cells):
    """It is left out of the frame; the item behind it keeps its index for its caller."""
    call = Call(cells, CODE, [0, "x" * 2**21, "loop", 3])
    await until(lambda: cells.pool.statistics.executors_started >= 1)
    call.recalled.add(2)
    assert kinds(await call.ended()) == ["success", "error", "cancelled", "success"]
