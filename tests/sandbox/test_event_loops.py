"""The same cells under either event loop."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio, sys
from loopai.sandbox import limits, pool, program

async def main():
    cells = pool.CellPool(limits.Limits(), cells_max=2)
    code = "def run(value):\\n    while value == 'hang': sum(range(10**10))\\n    return value\\n"
    one = program.Program(tenant="t", digest="d", code=code)
    try:
        outcomes = await cells.run(one, [b'1', b'"hang"', b'2'], [2000, 100, 2000])
        large = [b'"' + b"x" * 500_000 + b'"'] * 12
        outcomes += await cells.run(one, large, [5000] * 12)
        assert [outcome.output for outcome in outcomes[3:]] == large
    finally:
        await cells.close()
    print(*(outcome.kind for outcome in outcomes[:3]))

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_cells_work_under(loop):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, loop],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "success timeout success\n", "")
