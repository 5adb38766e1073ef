"""What the drive looks for after each attack it finds: a check that cannot fail would be none."""

import os
import subprocess
import sys
import time

import pytest

from tests.sandbox import drive, target, watch
from tests.sandbox.attacks import attack, catalogue
from tests.sandbox.watch import Process

WORKER, CELL, INIT, ACTIVE, SPARE = 10, 20, 30, 40, 41
HEALTHY = {
    WORKER: (1, "python3"),
    CELL: (WORKER, "bwrap"),
    INIT: (CELL, "python3"),
    ACTIVE: (INIT, "python3"),
    SPARE: (INIT, "python3"),
}


def table(extra):
    return {
        pid: Process(pid=pid, parent=parent, name=name, state="S")
        for pid, (parent, name) in (HEALTHY | extra).items()
    }


def test_a_cell_with_its_executor_and_spare_is_no_stranger():
    assert watch.strangers(table({}), WORKER, known=frozenset(), cells_max=1) == []


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ({50: (WORKER, "sh")}, "sh (50) below the worker"),
        ({50: (ACTIVE, "sh")}, "sh (50) below an executor"),
        ({50: (INIT, "python3")}, "more executors than 2"),
        ({50: (CELL, "sh")}, "sh (50) beside init"),
        ({50: (WORKER, "bwrap")}, "2 cells, not 1"),
    ],
)
def test_a_process_too_many_is_named(extra, found):
    (named,) = watch.strangers(table(extra), WORKER, known=frozenset(), cells_max=1)
    assert named.startswith(found)


@pytest.fixture
async def over(tmp_path):
    """A watch over this process, which has no cells."""
    with watch.Watch(folders=[tmp_path / "home"], named=[tmp_path]) as begun:
        (tmp_path / "home").mkdir()
        await begun.settled()
        yield begun


async def test_a_child_that_is_left_is_found(over):
    child = subprocess.Popen(  # noqa: ASYNC220 (short)
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    try:
        found = await over.unexpected(within_s=0.1)
    finally:
        child.communicate()
    assert any(one.startswith("process left: ") and str(child.pid) in one for one in found)


async def test_a_daemon_that_left_its_parent_is_found(over):
    """The watch adopts what its parents have left, so that nobody escapes to the first process."""
    script = (
        "import os\npid = os.fork()\nif pid:\n    print(pid)\n"
        "else:\n    os.closerange(1, 3)\n    os.read(0, 1)"
    )
    ours, theirs = os.pipe()
    started = subprocess.run(  # noqa: ASYNC221 (short)
        [sys.executable, "-c", script], stdin=ours, capture_output=True, check=True
    )
    os.close(ours)
    found = over.strangers()
    os.close(theirs)
    assert any(f"({int(started.stdout)})" in one for one in found)


@pytest.mark.parametrize("name", ["home/left", "attack-file"])
async def test_a_file_that_is_left_is_found(over, tmp_path, name):
    (tmp_path / name).touch()
    assert await over.unexpected(within_s=0.1) == [f"file left: {tmp_path / name}"]


async def test_a_descriptor_that_is_left_is_found(over):
    opened = os.open("/dev/zero", os.O_RDONLY)
    try:
        found = await over.unexpected(within_s=0.1)
    finally:
        os.close(opened)
    assert found == ["descriptor left: 1 more /dev/zero"]


async def test_an_event_loop_that_stood_still_is_found(over):
    ends = time.monotonic() + watch.LATE_S_MAX + 0.5
    while time.monotonic() < ends:
        pass
    (found,) = await over.unexpected(within_s=0.1)
    assert found.startswith("the event loop stood still")


class Aim:
    """Answers as it is told."""

    def __init__(self, **answer):
        self.answer = target.Answer(**answer)

    async def attack(self, attack, value):
        return self.answer

    async def neighbour(self, code, value):
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "success", "value": {"sum": 1, "words": [], "files": []}},
        {"kind": "success", "value": {"sum": 0, "words": list("12345"), "files": ["'attack'"]}},
        {"kind": "lost"},
    ],
)
async def test_a_neighbour_that_is_wrong_is_found(over, answer):
    host = attack.Host(file="", stdlib="", python="", pid=0)
    driven = drive.Drive(Aim(**answer), over, host, fresh=True)
    (found,) = await driven._neighbour()
    assert found.startswith("the neighbour answers")


@pytest.mark.parametrize(
    "answer", [{"kind": "success", "value": ["'attack-file'"]}, {"kind": "lost"}]
)
async def test_what_the_next_run_sees_is_found(over, answer):
    host = attack.Host(file="", stdlib="", python="", pid=0)
    driven = drive.Drive(Aim(**answer), over, host, fresh=True)
    (found,) = await driven._look(attack.gives("x", "return 1", 1))
    assert found.startswith("the next run sees")


@pytest.mark.parametrize(
    ("one", "answer"),
    [
        (attack.refused("x", "pass"), {"kind": "success", "value": ["reached", "1"]}),
        (attack.refused("x", "pass"), {"kind": "success", "value": ["refused", "EINVAL"]}),
        (attack.refused("x", "pass"), {"kind": "killed"}),
        (attack.gives("x", "pass", 1), {"kind": "success", "value": 2}),
        (attack.ends("x", "pass", "killed"), {"kind": "lost"}),
        (attack.ends("x", "pass", "error", error="E"), {"kind": "error", "error_type": "F"}),
    ],
)
def test_an_attack_that_ends_otherwise_is_found(one, answer):
    assert drive.judge(one, target.Answer(**answer))


@pytest.mark.parametrize("areas", [catalogue.PYTHON, catalogue.JAVASCRIPT])
def test_attacks_are_many_and_each_has_a_name_of_its_own(areas):
    many = sum(len(group) for group in areas.values())
    assert len(catalogue.named(areas=areas)) == many >= 120
