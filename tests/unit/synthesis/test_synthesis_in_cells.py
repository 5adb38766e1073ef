"""The whole path with the real sandbox: generate, screen, run in a cell, judge."""

import hashlib

import pytest

from loopai.sandbox import limits, pool, program
from loopai.synthesis import examples, selection
from tests.unit.synthesis import support


@pytest.fixture
async def run():
    cells = pool.CellPool(limits.Limits(), cells_max=2)

    async def run(code, inputs, timeout_ms):
        digest = hashlib.sha256(code.encode()).hexdigest()
        text = program.Program(tenant="default", digest=digest, code=code)
        return await cells.run(text, inputs, [timeout_ms] * len(inputs))

    yield run
    await cells.close()


@pytest.mark.parametrize("pairs", [support.texts(200, 11), support.houses(200, 11)])
async def test_generated_programs_run_in_a_cell(run, pairs):
    """What the engine writes needs nothing that a cell does not have."""
    winner = await selection.best(examples.candidates(support.task(pairs), 0), run)
    found = winner.judgement.evaluation
    assert winner.judgement.answered == found.examples_held_out == 40
    assert found.held_out_accuracy >= 0.85
    assert 0.5 < found.lower_bound < found.held_out_accuracy
    assert 0 < winner.complexity.estimated_latency_ms < 10
