"""How a program may be run is found by trying it."""

import asyncio
import time

import msgspec
import pytest

from loopai.sandbox import admission, program

PURE = "def run(value):\n    return value * 2\n"
STATEFUL = {
    "counts its calls": "n = 0\ndef run(value):\n    global n\n    n += 1\n    return n\n",
    "remembers its last input": (
        "last = None\ndef run(value):\n    global last\n"
        "    last, old = value, last\n    return old\n"
    ),
    "sticks to its first input": (
        "first = []\ndef run(value):\n    first.append(value)\n    return first[0]\n"
    ),
    "fails from the third call on": (
        "n = 0\ndef run(value):\n    global n\n    n += 1\n"
        "    if n > 2: raise ValueError\n    return value\n"
    ),
}


async def admit(cells, code, values, **wanted):
    inputs = [msgspec.json.encode(value) for value in values]
    return await admission.admit(cells.pool, cells.program(code), inputs, **wanted)


async def test_a_pure_program_stays_shared(cells):
    found = await admit(cells, PURE, range(40))
    assert (found.isolation, found.stateful) == ("shared", False)
    assert "tried on 32 examples" in found.reason
    assert found.latency_ms > 0


@pytest.mark.parametrize("code", STATEFUL.values(), ids=STATEFUL)
async def test_a_stateful_program_gets_a_process_for_each_batch(cells, code):
    found = await admit(cells, code, [10, 20, 30, 40])
    assert (found.isolation, found.stateful) == ("batch", True)
    assert found.reason.startswith("it is stateful: the input ")
    assert any(f"the input {value} gave" in found.reason for value in (10, 20, 30, 40))


async def test_one_input_is_enough_to_see_a_counter(cells):
    found = await admit(cells, STATEFUL["counts its calls"], [7])
    assert found.reason == ("it is stateful: the input 7 gave 1 at first and 2 after other inputs")


@pytest.mark.parametrize("wanted", [None, "shared"])
async def test_a_program_that_is_tried_again_gives_the_same_reason(cells, wanted):
    """What an earlier trial left in the program's state is gone with its cell."""
    code = STATEFUL["counts its calls"]
    first = await admit(cells, code, [7], wanted=wanted)
    again = await admit(cells, code, [7], wanted=wanted)
    assert again.reason == first.reason


async def test_two_trials_of_one_program_at_once_do_not_see_each_other(cells):
    code = STATEFUL["counts its calls"]
    first, second = await asyncio.gather(admit(cells, code, [7]), admit(cells, code, [7]))
    assert first.reason == second.reason
    assert first.reason.endswith("gave 1 at first and 2 after other inputs")


async def test_calls_and_trials_of_one_program_do_not_see_each_other(cells):
    """Its caller counts on where it was; the trial begins at one."""
    code = STATEFUL["counts its calls"]
    assert await cells.value(code) == 1
    found = await admit(cells, code, [7])
    assert found.reason.endswith("gave 1 at first and 2 after other inputs")
    assert await cells.value(code) == 2


async def test_trials_leave_no_cell(cells):
    """Neither one that is admitted, nor one that is refused."""
    await admit(cells, PURE, [1, 2])
    with pytest.raises(program.LoadError):
        await admit(cells, "x = 1\n", [1])
    assert cells.pool.cells == 0


async def test_what_its_author_asks_for_is_kept(cells):
    found = await admit(cells, STATEFUL["counts its calls"], [7], wanted="shared")
    assert (found.isolation, found.stateful) == ("shared", True)
    assert "asked for isolation shared" in found.reason
    assert (await admit(cells, PURE, [7], wanted="call")).isolation == "call"


async def test_without_inputs_it_only_has_to_load(cells):
    found = await admit(cells, PURE, [])
    assert (found.isolation, found.latency_ms) == ("shared", 0.0)
    assert "no examples" in found.reason


async def test_a_program_that_fails_alike_is_not_stateful(cells):
    found = await admit(cells, "def run(value):\n    return 1 / value\n", [0, 1, 0])
    assert not found.stateful
    assert "2 of which failed, the first with error (line 2: division by zero)" in found.reason


async def test_the_order_of_keys_is_no_difference(cells):
    code = (
        "n = 0\ndef run(value):\n    global n\n    n += 1\n"
        "    return {'a': 1, 'b': 2} if n % 3 else {'b': 2, 'a': 1}\n"
    )
    assert not (await admit(cells, code, [1, 2, 3])).stateful


async def test_a_timeout_is_not_taken_for_state(cells):
    """The first call of a process is too slow, the others are not: that may be the machine."""
    code = (
        "n = 0\ndef run(value):\n    global n\n    n += 1\n"
        "    if n == 1: sum(range(10**11))\n    return value\n"
    )
    assert not (await admit(cells, code, [1, 2], input_ms_max=200)).stateful
    # The same where the first answer was in time and the second was not.
    late = code.replace("n == 1", "n == 3")
    assert not (await admit(cells, late, [1, 2], input_ms_max=200)).stateful


async def test_running_out_of_memory_is_not_taken_for_state(cells):
    code = (
        "n = 0\ndef run(value):\n    global n\n    n += 1\n"
        "    if n == 3: return 'x' * 10**9\n    return value\n"
    )
    assert not (await admit(cells, code, [1, 2])).stateful


async def test_a_program_that_always_hangs_is_tried_for_a_bounded_time(cells):
    code = "def run(value):\n    return sum(range(10**11))\n"
    begun = time.monotonic()
    found = await admit(cells, code, range(32))
    assert time.monotonic() - begun < admission.TRIAL_S_MAX + 5
    assert not found.stateful
    assert "whether it is stateful is not known" in found.reason


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def run(value):\n    return (\n", 2),
        ("import json\nimport socket\ndef run(value): pass\n", 2),
        ("x = 1\n", None),
    ],
)
async def test_what_does_not_load_is_refused_with_its_line(cells, code, line):
    with pytest.raises(program.LoadError) as caught:
        await admit(cells, code, [1])
    assert caught.value.line == line


async def test_a_hang_at_import_is_refused(make_cells):
    cells = make_cells(load_ms_max=100)
    with pytest.raises(program.LoadError, match=r"timed out|longer than 100 ms"):
        await admit(cells, "sum(range(10**11))\ndef run(value): pass\n", [1])


async def test_long_inputs_and_answers_are_cut_in_the_reason(cells):
    code = "n = 0\ndef run(value):\n    global n\n    n += 1\n    return value * n\n"
    found = await admit(cells, code, ["x" * 10_000, "y"])
    assert found.stateful
    assert len(found.reason) < 1000
