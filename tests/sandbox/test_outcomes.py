"""What a single call comes back as."""

import pytest

INPUT = {"numbers": [1, 2.5, -3], "text": "grüße 🙂", "flag": True, "none": None}


async def test_run_answers_with_its_result(cells):
    code = "def run(value):\n    return {'same': value, 'sum': sum(value['numbers'])}\n"
    assert await cells.value(code, INPUT) == {"same": INPUT, "sum": 0.5}


@pytest.mark.parametrize(
    "value", ["", 'a\nb\u2028"\\', 0, -(2**53), 2**53, 1.5, 1e300, True, False, None, [], {}, [[1]]]
)
async def test_every_kind_of_json_comes_through(cells, value):
    assert await cells.value("def run(value):\n    return value\n", value) == value


async def test_classify_gets_the_only_text(cells):
    code = "def classify(text):\n    return text.upper()\n"
    assert await cells.value(code, "ham") == "HAM"
    assert await cells.value(code, {"text": "ham", "length": 3}) == "HAM"
    assert (await cells.one(code, {"a": "x", "b": "y"})).error_type == "TypeError"


async def test_subclasses_of_json_types_come_as_json(cells):
    code = """
import collections, enum, typing
class Level(enum.IntEnum):
    HIGH = 3
class Point(typing.NamedTuple):
    x: int
    y: int
def run(value):
    return {"counter": collections.Counter("aab"), "level": Level.HIGH, "point": Point(1, 2)}
"""
    assert await cells.value(code) == {"counter": {"a": 2, "b": 1}, "level": 3, "point": [1, 2]}


async def test_allowed_modules_work(cells):
    code = """
from __future__ import annotations
import collections.abc, dataclasses, datetime, decimal, hashlib, json, re, statistics, unicodedata
from urllib import parse
@dataclasses.dataclass
class Case:
    number: int
def run(value):
    return [
        datetime.datetime.strptime("2024-02-29", "%Y-%m-%d").strftime("%j"),
        str(decimal.Decimal("0.1") + 1), hashlib.sha256(b"").hexdigest()[:8],
        re.sub("[aeiou]", "", "sandbox"), statistics.median([3, 1, 2]), unicodedata.name("é"),
        parse.quote("a b"), Case(7).number, "\\N{BULLET}", "x".encode("idna").decode(),
    ]
"""
    assert await cells.value(code) == [
        "060",
        "1.1",
        "e3b0c442",
        "sndbx",
        2,
        "LATIN SMALL LETTER E WITH ACUTE",
        "a%20b",
        7,
        "•",
        "x",
    ]


async def test_library_may_import_more_of_itself(cells):
    """What C code and the library import on first use is read from the interpreter's files."""
    code = """
def run(value):
    return "ä€".encode("cp1252").decode("latin-1"), "ж".encode("koi8-r").hex()
"""
    assert await cells.value(code) == ["ä\x80", "d6"]


async def test_sets_iterate_alike_in_every_executor(cells):
    code = "def run(value):\n    return list({'apple', 'pear', 'plum', 'fig', 'lime'})\n"
    answers = {str(await cells.value(code, isolation="call")) for _ in range(3)}
    assert len(answers) == 1


async def test_exception_is_an_error_with_type_message_and_line(cells):
    outcome = await cells.one("def run(value):\n\n    return int(value)\n", "x")
    assert (outcome.kind, outcome.error_type) == ("error", "ValueError")
    assert outcome.message == "line 3: invalid literal for int() with base 10: 'x'"


async def test_line_is_the_program_s_own_when_the_library_raises(cells):
    code = "import json\ndef run(value):\n    return json.loads('{')\n"
    outcome = await cells.one(code)
    assert outcome.error_type == "JSONDecodeError"
    assert outcome.message.startswith("line 3: ")


@pytest.mark.parametrize(
    ("statement", "error_type"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return run(value)", "RecursionError"),
        ("import socket", "ImportError"),
        ("from os import path", "ImportError"),
        ("input()", "EOFError"),
        ("raise ExceptionGroup('g', [ValueError()])", "ExceptionGroup"),
    ],
)
async def test_whatever_is_raised_is_an_error(cells, statement, error_type):
    outcome = await cells.one(f"def run(value):\n    {statement}\n")
    assert (outcome.kind, outcome.error_type) == ("error", error_type)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("def __str__(self):\n        raise KeyError('no')", "error"),
        ("def __str__(self):\n        while True: pass", "timeout"),
        ("def __str__(self):\n        return 'x' * 10**6", "error"),
        ("def __str__(self):\n        raise SystemExit", "error"),
    ],
)
async def test_evil_description_of_an_exception_is_survived(cells, body, kind):
    code = f"class Evil(Exception):\n    {body}\ndef run(value):\n    raise Evil\n"
    outcome = await cells.one(code, timeout_ms=100)
    assert outcome.kind == kind
    assert len(outcome.message) <= cells.limits.message_bytes_max


async def test_python_loop_is_a_timeout_with_its_line(cells):
    """The soft deadline knows the line; on a busy machine the kill may come first."""
    code = "def run(value):\n    while value:\n        pass\n"
    await cells.load(code)
    outcome = await cells.one(code, True, timeout_ms=200)
    assert (outcome.kind, outcome.error_type) == ("timeout", "timeout")
    assert outcome.message in {"line 2: timed out", "line 3: timed out", "killed after 200 ms"}


@pytest.mark.parametrize(
    "statement",
    [
        "return bytearray(10**10)",
        "return 'x' * 10**10",
        "x = []\n    while True: x.append(bytearray(10**6))",
        "x = [0]\n    while True: x += x",
    ],
)
async def test_memory_beyond_the_limit_is_out_of_memory(cells, statement):
    code = f"def run(value):\n    if value == 0: return 0\n    {statement}\n"
    outcome = await cells.one(code, 1, timeout_ms=5000)
    assert (outcome.kind, outcome.error_type) == ("out_of_memory", "out_of_memory")
    assert outcome.message.startswith("line ")
    assert await cells.value(code, 0) == 0


async def test_result_of_exactly_the_limit_is_a_success(cells):
    size = cells.limits.output_bytes_max - 2
    assert len(await cells.value(f"def run(value):\n    return 'x' * {size}\n")) == size


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("object()", "a object is not JSON"),
        ("[{'a': {1, 2}}]", "/0/a: a set is not JSON"),
        ("(x for x in 'ab')", "a generator is not JSON"),
        ("b'bytes'", "a bytes is not JSON"),
        ("float('nan')", "number is not finite"),
        ("[1e308 * 10]", "/0: number is not finite"),
        ("2**53 + 1", "integer beyond 2**53"),
        ("[2**100]", "/0: integer beyond 2**53"),
        ("{1: 'a'}", "a key is not a string but int"),
        ("'\\ud800'", "lone surrogate"),
        ("{'\\udfff': 1}", "lone surrogate"),
        ("__import__('functools').reduce(lambda a, _: [a], range(65), 1)", "nested deeper than 64"),
        ("(lambda x: (x.append(x), x)[1])([])", "nested deeper than 64"),
        ("run", "a function is not JSON"),
    ],
)
async def test_value_outside_json_is_an_invalid_result(cells, expression, reason):
    outcome = await cells.one(f"def run(value):\n    return {expression}\n")
    assert (outcome.kind, outcome.error_type) == ("invalid_result", "invalid_result")
    assert reason in outcome.message


async def test_depth_of_64_is_a_success(cells):
    deep = "__import__('functools').reduce(lambda a, _: [a], range(64), 1)"
    await cells.value(f"def run(value):\n    return {deep}\n")


@pytest.mark.parametrize(
    "statement",
    ["os._exit(0)", "os.abort()", "ctypes.string_at(0)", "os.close(3)", "os.closerange(0, 99)"],
)
async def test_end_of_the_process_is_killed(cells, statement):
    code = f"""
import json
load = json.__builtins__["__import__"]
os, ctypes = load("os"), load("ctypes")
def run(value):
    if value:
        {statement}
    return 1
"""
    outcome = await cells.one(code, True)
    assert (outcome.kind, outcome.error_type) == ("killed", "killed")
    assert outcome.message.startswith("the program ended its process: it ")
    assert await cells.value(code, False) == 1


async def test_stdout_and_stderr_belong_to_their_call(cells):
    code = """
import json
sys = json.__builtins__["__import__"]("sys")
def run(value):
    print("seen", value)
    print("warned", file=sys.stderr)
    if value == 2:
        raise ValueError("two")
"""
    outcomes = await cells.many(code, [1, 2, 3])
    assert [one.stdout for one in outcomes] == [f"seen {n}\nwarned\n" for n in (1, 2, 3)]
    assert [one.kind for one in outcomes] == ["success", "error", "success"]


async def test_stdout_is_cut_at_its_limit(cells):
    code = "def run(value):\n    for _ in range(10**5): print('é' * 100)\n    return 1\n"
    outcome = await cells.one(code)
    assert outcome.kind == "success"
    assert len(outcome.stdout.encode()) <= cells.limits.stdout_bytes_max
    assert len(outcome.stdout) > cells.limits.stdout_bytes_max // 4


async def test_input_beyond_the_limit_is_an_error_of_its_own(cells):
    outcomes = await cells.many(
        "def run(value):\n    return len(value)\n", ["x" * 10, "x" * cells.limits.input_bytes_max]
    )
    assert [one.kind for one in outcomes] == ["success", "error"]
    assert outcomes[1].error_type == "InputTooLarge"
