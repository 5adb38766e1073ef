import subprocess
import sys

import pytest

from loopai.sandbox import modules
from loopai.synthesis import screening


def refusal(code: str) -> screening.Refused:
    with pytest.raises(screening.Refused) as caught:
        screening.screen(code)
    return caught.value


def test_plain_program_passes_and_is_measured():
    """Branches and lines of code are counted; comments and blank lines are not."""
    code = """
import re, collections.abc
from urllib import parse
from __future__ import annotations

# a comment
def run(input):
    if input and input > 0 or not input:
        return [x for x in input if x]
    return 1 if input else 2
"""
    found = screening.screen(code.replace("from __future__ import annotations\n", ""))
    assert found.cyclomatic_complexity == 7
    assert found.lines_of_code == 6
    assert found.estimated_latency_ms == 0.0


@pytest.mark.parametrize(
    "code",
    [
        "def classify(text): return 1",
        "def run(input, limit=3, *rest, flag=False, **more): return 1",
        "def run(input, /): return 1",
        "def run(a, b): return 1\ndef run(input): return 2",
        "def run(input):\n    def inner():\n        yield 1\n    return list(inner())",
        "def run(input):\n    return '\\d'",
    ],
)
def test_accepted_forms_of_the_entry_point(code):
    """One required argument is what counts; the last definition is the one that runs."""
    screening.screen(code)


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        ("def main(input): return 1", None, "does not define a function run(input)"),
        ("", None, "does not define"),
        ("run = lambda input: 1", None, "does not define"),
        ("if True:\n    def run(input): return 1", None, "does not define"),
        ("x = 1\ndef run(): return 1", 2, "one required argument"),
        ("def run(a, b): return 1", 1, "one required argument"),
        ("def run(input, *, flag): return 1", 1, "one required argument"),
        ("def run(*inputs): return 1", 1, "one required argument"),
        ("async def run(input): return 1", 1, "plain function"),
        ("class run: pass", 1, "plain function"),
        ("def run(input):\n    yield 1", 1, "not yield"),
        ("def run(input) return 1", 1, "not valid Python"),
        ("def run(input):\n    import os\n    return 1", 2, "imports os, which programs may not"),
        ("import os.path\ndef run(input): return 1", 1, "imports os.path"),
        ("import urllib.request\ndef run(input): return 1", 1, "imports urllib.request"),
        ("from urllib import request\ndef run(input): return 1", 1, "imports urllib.request"),
        ("from . import x\ndef run(input): return 1", 1, "relative imports"),
        ("from .. import x\ndef run(input): return 1", 1, "relative imports"),
        ("def run(input): return 1\0", None, "not valid Python"),
        ("def run(input): return '\ud800'", None, "not valid Unicode"),
    ],
)
def test_refusals_say_where_and_why(code, line, words):
    """Whoever wrote the program can mend it from the message alone."""
    refused = refusal(code)
    assert refused.line == line
    assert words in refused.reason
    assert str(refused) == (f"line {line}: {refused.reason}" if line else refused.reason)


def test_refused_import_names_what_is_allowed():
    """The list in the message is the list that is checked."""
    reason = refusal("import socket\ndef run(input): return 1").reason
    assert reason.endswith("allowed: " + ", ".join(sorted(modules.ALLOWED)))


@pytest.mark.parametrize("module", sorted(modules.ALLOWED - {"__future__"}))
def test_every_allowed_module_may_be_imported(module):
    """Dotted names too."""
    screening.screen(f"import {module}\ndef run(input): return 1")


ATTACKS = {
    "parentheses": "(" * 100_000 + ")" * 100_000,
    "lists": "[" * 5_000 + "]" * 5_000,
    "open lists": "[" * 500_000,
    "minuses": "-" * 200_000 + "1",
    "nots": "not " * 100_000 + "1",
    "sum": "1" + "+1" * 200_000,
    "attributes": "a" + ".b" * 200_000,
    "calls": "a" + "()" * 200_000,
    "subscripts": "a" + "[0]" * 100_000,
    "lambdas": "lambda: " * 50_000 + "1",
    "powers": "1" + "**1" * 100_000,
    "ternaries": "1 if 1 else " * 50_000 + "1",
    "comparisons": "a" + "<a" * 200_000,
    "awaits": "await " * 100_000 + "a",
    "strings": "'a' " * 200_000,
    "big integer": "1" * 900_000,
    "big hexadecimal": "0x" + "f" * 900_000,
    "f-strings": "f'{" * 300 + "1" + "}'" * 300,
    "power tower": "9**9**9**9**9",
    "dictionary": "{" + "1: {" * 5_000 + "}" * 5_001,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_syntax_is_measured_or_refused_but_never_crashes(name):
    """The parser's limits show as a refusal; a crash would take the worker along."""
    code = f"def run(input):\n    return 1\nx = {ATTACKS[name]}\n"
    assert len(code) <= screening.CODE_BYTES_MAX
    program = (
        "import sys\nfrom loopai.synthesis import screening\n"
        "try:\n    screening.screen(sys.stdin.read())\n"
        "except screening.Refused as refused:\n    print('refused', refused)\n"
        "else:\n    print('passed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=code, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.split()[0] in {"refused", "passed"}


@pytest.mark.parametrize("opening", ["if 1:", "def f():", "class A:", "with a:", "try:"])
def test_deeply_indented_blocks_are_refused(opening):
    """Python allows a hundred levels."""
    lines = [" " * depth + opening for depth in range(500)]
    refusal("\n".join(["def run(input): return 1", *lines, " " * 500 + "pass"]))


def test_program_at_the_size_limit_passes_and_one_byte_more_is_refused():
    """The limit counts bytes of UTF-8, not characters."""
    code = "def run(input): return 1\n#"
    fill = "é" * ((screening.CODE_BYTES_MAX - len(code)) // 2)
    fill += "e" * (screening.CODE_BYTES_MAX - len((code + fill).encode()))
    assert len((code + fill).encode()) == screening.CODE_BYTES_MAX
    screening.screen(code + fill)
    assert "the limit is" in refusal(code + fill + "e").reason


def test_screening_loads_no_numerical_library():
    """The ingress screens uploads and must stay small."""
    program = (
        "import sys\nfrom loopai.synthesis import screening\n"
        "print(sorted({'sklearn', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert said == b"[]\n"


def test_asking_the_engine_loads_no_numerical_library():
    """Only fitting does: the worker starts without it, and refuses too few examples without it."""
    program = (
        "import sys\nfrom loopai.synthesis import examples, selection\n"
        "print(sorted({'sklearn', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert said == b"[]\n"
