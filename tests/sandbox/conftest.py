"""A pool of real cells for each test, and what must hold when it is closed: nothing is left."""

import json
import os

import msgspec
import pytest

from loopai.sandbox import limits, pool, program
from tests.sandbox import watch


def descendants(pid: int) -> set[int]:
    parents = {each.pid: each.parent for each in watch.processes().values()}
    found: set[int] = set()
    while True:
        more = {child for child, parent in parents.items() if parent in found | {pid}} - found
        if not more:
            return found
        found |= more


class Cells:
    """A CellPool spoken to in values instead of JSON text."""

    def __init__(
        self, bounds: limits.Limits, cells_max: int, memory_bytes_max: int | None = None
    ) -> None:
        self.limits = bounds
        self.pool = pool.CellPool(bounds, cells_max=cells_max, memory_bytes_max=memory_bytes_max)

    def program(self, code, *, tenant="one", **kind):
        digest = format(hash(code) & 2**64 - 1, "x")
        return program.Program(tenant=tenant, digest=digest, code=code, **kind)

    async def load(self, code, **kind):
        await self.pool.load(self.program(code, **kind))

    async def many(self, code, values, *, timeout_ms=2000.0, **kind):
        inputs = [msgspec.json.encode(value) for value in values]
        return await self.pool.run(self.program(code, **kind), inputs, [timeout_ms] * len(inputs))

    async def one(self, code, value=None, **kind):
        (outcome,) = await self.many(code, [value], **kind)
        return outcome

    async def value(self, code, value=None, **kind):
        outcome = await self.one(code, value, **kind)
        assert outcome.kind == "success", outcome
        return json.loads(outcome.output)

    def descendants(self, pid=None):
        """Ids of all processes below *pid*, or below this one."""
        return descendants(os.getpid() if pid is None else pid)

    async def close(self):
        before = self.descendants()
        await self.pool.close()
        left = before & self.descendants()
        assert not left, f"processes left after close: {left}"


@pytest.fixture
async def cells():
    made = Cells(limits.Limits(), 4)
    yield made
    await made.close()


@pytest.fixture
async def make_cells():
    """For tests with limits of their own."""
    made = []

    def make(*, cells_max=4, pool_memory_bytes_max=None, **bounds):
        made.append(Cells(limits.Limits(**bounds), cells_max, pool_memory_bytes_max))
        return made[-1]

    yield make
    for one in made:
        await one.close()
