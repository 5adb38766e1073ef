"""What loads, and what is refused with the line and the reason."""

import pytest

from loopai.sandbox import program


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def run(value):\n    return (\n", "line 2: '(' was never closed"),
        ("x = 1\n", "defines no function run(input)"),
        ("run = 3\n", "defines no function run(input)"),
        ("\nimport socket\ndef run(value): pass\n", "line 2: module 'socket' is not available"),
        ("import os.path\ndef run(value): pass\n", "line 1: module 'os.path' is not available"),
        ("import numpy\ndef run(value): pass\n", "line 1: module 'numpy' is not available"),
        ("\n\n1 / 0\n", "line 3: division by zero (ZeroDivisionError)"),
        ("raise SystemExit\n", "line 1 (SystemExit)"),
        ("x = bytearray(10**10)\n", "out of memory"),
        ("x = 'a\x00b'\n", "null bytes"),
        ("x = '\ud800'\n", "not UTF-8"),
    ],
)
async def test_broken_program_is_refused(cells, code, reason):
    with pytest.raises(program.LoadError) as caught:
        await cells.load(code)
    assert reason in str(caught.value)


@pytest.mark.parametrize("code", ["while True: pass\n", "sum(range(10**10))\n"])
async def test_hang_at_import_is_refused(make_cells, code):
    cells = make_cells(load_ms_max=100)
    with pytest.raises(program.LoadError, match=r"timed out|longer than 100 ms"):
        await cells.load(code)


@pytest.mark.parametrize("statement", ["os._exit(0)", "os.write(3, b'x' * 64); sum(range(10**9))"])
async def test_tampering_at_import_is_refused(cells, statement):
    code = f'import json\nos = json.__builtins__["__import__"]("os")\n{statement}\n'
    with pytest.raises(program.LoadError, match=r"ended its process|result channel"):
        await cells.load(code)


async def test_oversized_program_is_refused(cells):
    with pytest.raises(program.LoadError, match="exceeds 1048576 bytes"):
        await cells.load("#" * (cells.limits.code_bytes_max + 1))


async def test_program_of_exactly_the_limit_loads(cells):
    code = "def run(value):\n    return 1\n"
    await cells.load(code + "#" * (cells.limits.code_bytes_max - len(code)))


async def test_running_a_program_that_does_not_load_is_an_error_for_each_item(cells):
    outcomes = await cells.many("raise ValueError('no')\n", [1, 2])
    assert [(one.kind, one.error_type) for one in outcomes] == [("error", "LoadError")] * 2
    assert await cells.value("def run(value):\n    return 1\n") == 1


async def test_loading_twice_is_loading_once(cells):
    code = "def run(value):\n    return 1\n"
    await cells.load(code)
    await cells.load(code)
    assert await cells.value(code) == 1
