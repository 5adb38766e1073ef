"""Calls that wait for their cell: together in one frame, and none pays for another."""

import asyncio

import pytest

from loopai.sandbox import turns
from tests.sandbox.test_batches import CODE, KINDS, kinds
from tests.wait import until

COUNTS = """
seen = []
def run(value):
    seen.append(value)
    n = 0
    while value == "slow" and n < 3 * 10**6: n += 1
    while value == "hang": pass
    return seen if value == "seen" else value
"""


class Busy:
    """The cell of *code*, warm and quick, and busy while inside: calls made there wait."""

    def __init__(self, cells, code, **kind):
        self.cells, self.code, self.kind = cells, code, kind
        self.counted = cells.pool.statistics
        self.calls = []

    async def __aenter__(self):
        for _ in range(2):
            await self.cells.many(self.code, range(256), **self.kind)
        self.cell = next(iter(self.cells.pool._cells.values())).cell
        await self.cell._lock.acquire()
        self.frames = self.counted.frames
        return self

    async def __aexit__(self, *error):
        self.cell._lock.release()

    async def call(self, values, *, timeout_ms=2000.0):
        running = self.cells.many(self.code, values, timeout_ms=timeout_ms, **self.kind)
        task = asyncio.create_task(running)
        before = self.counted.waiting
        await until(lambda: self.counted.waiting == before + 1)
        self.calls.append(task)
        return task

    async def outcomes(self):
        return [[one.kind for one in await call] for call in self.calls]


@pytest.fixture
def unhurried(monkeypatch):
    """Calls go together however long they take: on a busy machine quick ones may take long."""
    monkeypatch.setattr(turns, "TOGETHER_MS", 1_000.0)


def outputs(outcomes):
    return [one.output for one in outcomes]


@pytest.mark.usefixtures("unhurried")
async def test_calls_that_wait_travel_in_one_frame(cells):
    async with Busy(cells, COUNTS) as busy:
        for number in range(8):
            await busy.call([4 * number + each for each in range(4)])
    for number, call in enumerate(busy.calls):
        assert outputs(await call) == [b"%d" % (4 * number + each) for each in range(4)]
    assert busy.counted.frames == busy.frames + 1
    assert busy.counted.waiting == 0


async def test_callers_that_come_back_at_once_keep_travelling_together(cells):
    async with Busy(cells, COUNTS) as busy:

        async def ask(number):
            for _ in range(10):
                assert await cells.value(COUNTS, number) == number

        asking = [asyncio.create_task(ask(number)) for number in range(8)]
        await until(lambda: busy.counted.waiting == 8)
    await asyncio.gather(*asking)
    # 10 unless this process is stopped for long in between.
    assert busy.counted.frames - busy.frames < 40


@pytest.mark.usefixtures("unhurried")
async def test_more_than_a_frame_holds_waits_for_the_next(cells):
    async with Busy(cells, COUNTS) as busy:
        for size in (200, 56, 1, 255, 1):
            await busy.call(range(size))
    assert [len(each) for each in await busy.outcomes()] == [200, 56, 1, 255, 1]
    assert busy.counted.frames == busy.frames + 3


@pytest.mark.usefixtures("unhurried")
async def test_large_inputs_do_not_share_a_frame_that_cannot_hold_them(cells):
    async with Busy(cells, "def run(value):\n    return 0\n") as busy:
        for _ in range(3):
            await busy.call(["x" * 900_000])
    assert await busy.outcomes() == [["success"]] * 3
    assert busy.counted.frames == busy.frames + 2


async def test_small_call_goes_between_the_frames_of_a_large_one(cells):
    async with Busy(cells, COUNTS) as busy:
        large = await busy.call(range(256 * 40))
        small = await busy.call([1])
    await small
    assert not large.done()
    assert {one.kind for one in await large} == {"success"}


@pytest.mark.parametrize("isolation", ["batch", "call"])
async def test_isolated_calls_share_nothing(cells, isolation):
    async with Busy(cells, "def run(value):\n    return value\n", isolation=isolation) as busy:
        for number in range(3):
            await busy.call([number])
    assert await busy.outcomes() == [["success"]] * 3
    assert busy.counted.frames == busy.frames + 3


@pytest.mark.parametrize("bad", KINDS)
async def test_bad_item_of_one_call_leaves_the_others_theirs(cells, bad):
    values = [[1, 2, "slow"], [3, bad, 4], [5, 6], [bad], [7]]
    async with Busy(cells, CODE) as busy:
        for each in values:
            await busy.call(each, timeout_ms=300)
    assert await busy.outcomes() == [kinds(each) for each in values]
    assert outputs(await busy.calls[2]) == [b"5", b"6"]


async def test_slow_items_part_the_calls_behind_them(cells):
    """Who waits for a short run does not wait for the long one that came behind it as well."""
    async with Busy(cells, COUNTS) as busy:
        pass
    assert (await cells.one(COUNTS, "hang", timeout_ms=200)).kind == "timeout"
    await busy.cell._lock.acquire()
    quick, slow = await busy.call([1]), await busy.call(["hang"], timeout_ms=60_000)
    busy.cell._lock.release()
    assert outputs(await quick) == [b"1"]
    assert not slow.done()
    slow.cancel()


@pytest.mark.parametrize("timeout_ms", [300, 60_000])
async def test_call_does_not_wait_for_the_hangs_of_those_behind_it(cells, timeout_ms):
    """They went into one frame, as all before it were quick; only the first hang delays it."""
    async with Busy(cells, COUNTS) as busy:
        quick = await busy.call([1])
        slow = await busy.call(["hang"] * 64, timeout_ms=timeout_ms)
    assert outputs(await quick) == [b"1"]
    assert not slow.done()
    slow.cancel()


async def test_call_whose_caller_goes_before_its_turn_is_not_run(cells):
    async with Busy(cells, COUNTS) as busy:
        gone = await busy.call(["gone"])
        stays = await busy.call(["stays"])
        gone.cancel()
        await asyncio.wait({gone})
        assert busy.counted.waiting == 1
    assert outputs(await stays) == [b'"stays"']
    assert (await cells.value(COUNTS, "seen"))[-2:] == ["stays", "seen"]


async def test_caller_that_goes_in_its_turn_leaves_the_others_theirs(cells):
    async with Busy(cells, COUNTS) as busy:
        gone, stays = await busy.call(["slow"]), await busy.call([1, 2])
    await until(lambda: busy.counted.waiting == 0)
    gone.cancel()
    assert outputs(await stays) == [b"1", b"2"]
    assert gone.cancelled()
    assert busy.counted.frames == busy.frames + 1
    assert busy.counted.kills == {}


async def test_turn_that_all_callers_have_left_ends(cells):
    async with Busy(cells, COUNTS) as busy:
        first = await busy.call(["hang"], timeout_ms=60_000)
        second = await busy.call([1])
    await until(lambda: busy.counted.waiting == 0)
    for call in (first, second):
        call.cancel()
        await asyncio.wait({call})
    async with asyncio.timeout(30):
        assert await cells.value(COUNTS, 1) == 1


async def test_calls_behind_a_turn_that_all_have_left_are_run(cells):
    async with Busy(cells, COUNTS) as busy:
        gone = await busy.call(["hang"], timeout_ms=60_000)
    await until(lambda: busy.counted.waiting == 0)
    behind = await busy.call([1])
    gone.cancel()
    async with asyncio.timeout(30):
        assert outputs(await behind) == [b"1"]


async def test_calls_of_a_cell_that_is_closed_are_lost(cells):
    async with Busy(cells, COUNTS) as busy:
        for number in range(3):
            await busy.call([number])
        closing = asyncio.create_task(cells.close())
        await until(lambda: busy.cell._closed)
    assert await busy.outcomes() == [["lost"]] * 3
    await closing
    assert busy.counted.waiting == 0
