"""`loopai sandbox run` as a person types it: a process of its own, real cells, exit codes."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.sandbox.conftest import descendants
from tests.wait import until

COMMAND = (sys.executable, "-m", "loopai.cli.main", "sandbox", "run")
UPPER = "def run(input):\n    print('seen', input)\n    return input.upper()\n"
WAIT_S = 60.0


@pytest.fixture
def loopai(tmp_path):
    """Runs the command in a folder of the test that holds upper.py."""
    (tmp_path / "upper.py").write_text(UPPER)

    def run(*arguments, stdin=""):
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    return run


def test_the_output_goes_to_stdout_and_what_is_printed_to_stderr(loopai):
    """A pipe gets the result and nothing else."""
    done = loopai("upper.py", "--input", '"hello"')
    assert (done.returncode, done.stdout, done.stderr) == (0, '"HELLO"\n', "seen hello\n")


def test_a_failure_says_its_kind_and_line_and_gives_exit_code_1(loopai):
    """What the program did wrong is said without looking at the sandbox's inside."""
    done = loopai("upper.py", "--input", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error (AttributeError): " in done.stderr
    assert "no attribute 'upper'" in done.stderr
    assert "inside/executor" not in done.stderr


@pytest.mark.parametrize(("name", "typed"), [("upper.js", ""), ("upper.ts", ": string")])
def test_the_suffix_says_the_language(loopai, tmp_path, name, typed):
    """JavaScript and TypeScript run as Python does, and fail as it does."""
    (tmp_path / name).write_text(
        f"export function run(input{typed}) {{ console.log('seen', input);"
        "return twice(input); }\n"
        "const twice = (text) => text.repeat(2);\n"
    )
    done = loopai(name, "--input", '"ab"')
    assert (done.returncode, done.stdout, done.stderr) == (0, '"abab"\n', "seen ab\n")
    failed = loopai(name, "--input", "5")
    assert failed.returncode == 1
    assert "error (TypeError): line 2: text.repeat is not a function" in failed.stderr
    assert f"{name.replace('upper', 'program')}:2:" in failed.stderr


def test_many_inputs_have_a_line_each(loopai, tmp_path):
    """Line N of stdout belongs to input N, also behind one that failed; blank lines are nothing."""
    (tmp_path / "in.ndjson").write_text('"b"\n\n5\n"c"\n')
    done = loopai("upper.py", "--input", '"a"', "--inputs", "in.ndjson")
    assert (done.returncode, done.stdout) == (1, '"A"\n"B"\n\n"C"\n')
    assert "input 3: error (AttributeError)" in done.stderr


def test_json_prints_outcomes(loopai):
    """A program that reads us gets every field, and the output as JSON."""
    done = loopai("upper.py", "--input", '"a"', "--input", "5", "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["kind"], first["output"], first["stdout"]) == ("success", "A", "seen a\n")
    assert (second["kind"], second["output"]) == ("error", None)
    assert second["error_type"] == "AttributeError"
    assert (done.returncode, done.stderr) == (1, "")


def test_a_program_from_stdin_needs_its_language(loopai):
    """stdin has no suffix to tell it by."""
    code = "def run(input):\n    return input + 1\n"
    done = loopai("-", "--language", "python", "--input", "41", stdin=code)
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert "say --language python" in loopai("-", "--input", "41", stdin=code).stderr


def test_an_input_from_a_file(loopai, tmp_path):
    """As in `loopai run`: @ and a name."""
    (tmp_path / "one.json").write_text('\n"hello"\n')
    assert loopai("upper.py", "--input", "@one.json").stdout == '"HELLO"\n'


def test_a_loop_is_ended_at_the_deadline(loopai):
    """--timeout-ms holds, in C code too."""
    code = "def run(input):\n    return sum(range(10**11))\n"
    arguments = ("-", "--language", "python", "--input", "1", "--timeout-ms", "100")
    done = loopai(*arguments, stdin=code)
    assert done.returncode == 1
    assert done.stderr.startswith("timeout: ")


def test_a_lower_memory_limit_holds(loopai):
    """--memory-mib is the program's bound."""
    code = "def run(input):\n    return len(bytearray(60_000_000))\n"
    arguments = ("-", "--language", "python", "--input", "1")
    assert loopai(*arguments, stdin=code).stdout == "60000000\n"
    done = loopai(*arguments, "--memory-mib", "64", stdin=code)
    assert done.returncode == 1
    assert done.stderr.startswith("out_of_memory: ")


@pytest.mark.parametrize(("isolation", "seen"), [("shared", "1\n2\n3\n"), ("call", "1\n1\n1\n")])
def test_isolation_is_that_of_a_deployment(loopai, isolation, seen):
    """What a program remembers shows here before it shows in production."""
    code = "calls = []\n\ndef run(input):\n    calls.append(input)\n    return len(calls)\n"
    inputs = ("--input", "0") * 3
    done = loopai("-", "--language", "python", "--isolation", isolation, *inputs, stdin=code)
    assert done.stdout == seen


def test_a_program_that_does_not_load_says_so_once(loopai):
    """Not once for every input."""
    inputs = ("--input", "1") * 3
    done = loopai("-", "--language", "python", *inputs, stdin="def run(\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("LoadError") == 1
    assert "line 1" in done.stderr


def test_a_program_that_does_not_load_is_an_object_for_every_input_in_json(loopai):
    """Whoever reads object N for input N finds it, with the line."""
    inputs = ("--input", "1") * 3
    text = "import json\ndef run(\n"
    done = loopai("-", "--language", "python", *inputs, "--json", stdin=text)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["kind"], one["error_type"], one["line"]) for one in found] == [
        ("error", "LoadError", 2)
    ] * 3
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mark.py", UPPER),
        ("mark.js", "export const run = (input) => input.toUpperCase();\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_program(loopai, tmp_path, name, text):
    """Editors on Windows write one."""
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    done = loopai(name, "--input", '"a"')
    assert (done.returncode, done.stdout) == (0, '"A"\n')


def test_what_a_terminal_would_obey_is_shown(loopai):
    """A program must not repaint the terminal of the one who tries it."""
    code = "def run(input):\n    print('\\x1b[2J\\x9b2J')\n"
    done = loopai("-", "--language", "python", "--input", "1", stdin=code)
    assert done.stderr == "\\x1b[2J\\x9b2J\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("upper.py",), "give --input JSON"),
        (("upper.py", "--input", "{"), "--input { is not JSON"),
        (("upper.py", "--input", "@gone.json"), "gone.json: No such file"),
        (("upper.py", "--inputs", "upper.py"), "upper.py, line 1 is not JSON"),
        (("gone.py", "--input", "1"), "gone.py: No such file"),
        (("upper.rb", "--input", "1"), "unknown suffix '.rb'; say --language"),
        (("upper.py", "--inputs", "empty.ndjson"), "empty.ndjson holds no input"),
        (("upper.py", "--memory-mib", "63", "--input", "1"), "63: must be at least 64"),
        (("upper.py", "--memory-mib", "-1", "--input", "1"), "-1: must be at least 64"),
        (("-", "--language", "python", "--input", "-"), "stdin cannot be both"),
        (("binary.py", "--input", "1"), "binary.py: not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_named_on_one_line(loopai, tmp_path, arguments, named):
    """Exit code 2: nothing was run."""
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.ndjson").write_text("\n\n")
    done = loopai(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_runtime_for_javascript_names_what_to_install(tmp_path):
    """Without Deno beside Python and on PATH; bubblewrap is still there."""
    (tmp_path / "one.js").write_text("export const run = (input) => input;\n")
    (tmp_path / "bwrap").symlink_to("/usr/bin/bwrap")
    # sys.prefix is where PyPI's Deno lies.
    code = (
        f"import sys; sys.prefix = {str(tmp_path)!r}\n"
        "from loopai.cli import main\nmain.main(['sandbox', 'run', 'one.js', '--input', '1'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("pip install 'loopai[javascript]'\n")


def test_no_sandbox_runs_nothing(tmp_path):
    """It fails closed, as a worker does, and says what is missing."""
    (tmp_path / "upper.py").write_text(UPPER)
    done = subprocess.run(
        [*COMMAND, "upper.py", "--input", '"a"'],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "apt-get install bubblewrap" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_leaves_no_process(tmp_path, number):
    """Whatever the program is at."""
    (tmp_path / "hang.py").write_text("def run(input):\n    while input:\n        pass\n")
    # The first batch answers, so that a line is seen when the cell is at work.
    (tmp_path / "in.ndjson").write_text("0\n" * 256 + "1\n")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("hang.py", "--inputs", "in.ndjson", "--timeout-ms", "60000"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"null\n"
            below = descendants(process.pid)
            assert below
            process.send_signal(number)
            _, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 128 + number
    assert complaint == b""
    # Those orphaned in the act of starting are for the machine's process 1 to reap.
    await until(lambda: below.isdisjoint(descendants(1)))
