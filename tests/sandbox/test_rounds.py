"""Rounds through many cells: bounded work in each, and every cell has its turn."""

import asyncio
import collections
import os

from loopai.sandbox import memory, rounds


class Stub:
    """A cell as far as rounds see it, with this process for its only one."""

    def __init__(self, rests=False):
        self.pids = [os.getpid()]
        self.looked = self.rested = 0
        self.rests = rests

    def end_the_busy(self):
        self.looked += 1

    async def rest(self):
        self.rested += 1
        return self.rests


def some(count, **kind):
    made = rounds.Rounds()
    entries = [rounds.Entry(cell=Stub(**kind)) for _ in range(count)]
    for entry in entries:
        made.add(entry)
    return made, entries


def weighed(entries):
    return sum(entry.weight_bytes > 0 for entry in entries)


async def test_each_of_many_cells_is_looked_at_in_its_turn():
    made, entries = some(3 * rounds.LOOKS_MAX)
    for _ in range(3):
        before = sum(entry.cell.looked for entry in entries)
        await made.look()
        assert sum(entry.cell.looked for entry in entries) == before + rounds.LOOKS_MAX
    assert {entry.cell.looked for entry in entries} == {1}


async def test_few_cells_are_looked_at_once_a_round():
    made, entries = some(3)
    await made.look()
    assert [entry.cell.looked for entry in entries] == [1, 1, 1]


async def test_cells_in_use_and_those_that_are_gone_are_left_alone():
    made, entries = some(3)
    entries[0].users = 1
    made.drop(entries[1])
    await made.look()
    assert [entry.cell.looked for entry in entries] == [0, 0, 1]


async def test_others_have_turns_within_a_round():
    made, _ = some(rounds.LOOKS_MAX)
    turns = collections.Counter()

    async def other():
        while True:
            turns["all"] += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    await made.look()
    running.cancel()
    assert turns["all"] > 4


async def test_every_cell_is_weighed_some_in_each_round():
    made, entries = some(2 * rounds.WEIGHS_MAX)
    for count in (1, 2, 2):
        await made.weigh([])
        assert weighed(entries) == count * rounds.WEIGHS_MAX
    assert made.weight_bytes == sum(entry.weight_bytes for entry in entries)


async def test_only_cells_that_were_used_are_weighed_again():
    made, entries = some(2)
    await made.weigh([])
    for entry in entries:
        entry.weighed -= rounds.WEIGH_S
        entry.cell.pids = []
    made.change(entries[0])
    await made.weigh([])
    assert [entry.weight_bytes > 0 for entry in entries] == [False, True]


async def test_cell_in_steady_use_is_weighed_now_and_then():
    made, (entry,) = some(1)
    await made.weigh([])
    made.change(entry)
    entry.cell.pids = []
    await made.weigh([])
    assert entry.weight_bytes > 0
    entry.weighed -= rounds.WEIGH_S
    await made.weigh([])
    assert entry.weight_bytes == made.weight_bytes == 0


async def test_cell_that_gave_back_memory_is_weighed_again():
    made, (entry,) = some(1, rests=True)
    await made.weigh([])
    await made.look()
    entry.weighed -= rounds.WEIGH_S
    entry.cell.pids = []
    await made.weigh([])
    assert made.weight_bytes == 0


async def test_new_cells_are_weighed_before_those_that_are_known():
    made, entries = some(rounds.WEIGHS_MAX)
    new = rounds.Entry(cell=Stub())
    made.add(new)
    await made.weigh([])
    assert new.weight_bytes > 0
    assert weighed(entries) == rounds.WEIGHS_MAX - 1


async def test_cells_that_are_gone_weigh_nothing_and_blank_ones_do():
    made, (first, second) = some(2)
    made.drop(first)
    await made.weigh([os.getpid()])
    assert made.weight_bytes > second.weight_bytes > 0
    made.drop(second)
    assert made.weight_bytes < 2 * memory.used([os.getpid()])
