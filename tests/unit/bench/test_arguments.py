"""What the bench says of arguments that it cannot measure with."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nothing", "no such part: nothing; there are http, "),
        ("http --only loopi", "'loopi' is none of loopai, "),
        ("http --connections 1,x", "'x' is not a whole number from 1 to 1024"),
        ("http --connections 1025", "'1025' is not a whole number from 1 to 1024"),
        ("http --rounds 0", "'0' is not a whole number from 1 to "),
        ("http --seconds 0.5", "'0.5' is not a whole number from 1 to "),
        ("latency --rounds 3", "--rounds is an option of the part http"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_starts(arguments: str, said: str) -> None:
    """The message has what was given and what there is."""
    done = bench(*arguments.split())
    assert done.returncode == 2
    assert said in done.stderr


def test_what_a_machine_lacks_is_named_with_the_way_to_it(tmp_path: Path) -> None:
    """Without wrk there is no traceback, but the command that installs it."""
    done = bench("http", "--only", "echo", path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "error: wrk is not installed: apt-get install redis-server wrk\n"


def bench(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=False
    )
