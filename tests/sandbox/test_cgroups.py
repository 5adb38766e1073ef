"""Control groups: what a whole cell may take, where this process may make them."""

import asyncio
import os
import pathlib
import subprocess
import sys

import pytest

from loopai.sandbox import cgroups
from tests.wait import until

MIB = 2**20
EATS = "import sys; data = bytearray(200 * 2**20); print(len(data))"


@pytest.fixture
def groups():
    try:
        found = cgroups.find()
    except cgroups.UnavailableError as error:
        pytest.skip(f"this machine gives us none: {error}")
    yield found
    found.close()
    assert not any(root.exists() for root in found._roots)


def test_group_ends_what_takes_more_than_its_memory(groups):
    group = groups.group(memory_bytes_max=48 * MIB, pids_max=16)
    eater = subprocess.Popen(
        [sys.executable, "-c", f"input(); {EATS}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert not group.has_killed()
    group.add(eater.pid)
    eater.communicate(b"\n")
    assert eater.returncode == -9
    assert group.has_killed()
    assert not group.has_killed(), "a kill is told once"
    group.close()


def test_group_refuses_processes_beyond_its_number(groups):
    group = groups.group(memory_bytes_max=512 * MIB, pids_max=1)
    forks = "input(); import os; os.fork()"
    one = subprocess.Popen(
        [sys.executable, "-c", forks], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    group.add(one.pid)
    _, said = one.communicate(b"\n")
    assert one.returncode == 1
    assert b"BlockingIOError" in said
    group.close()


async def test_program_that_the_kernel_kills_for_memory_is_out_of_memory(groups, make_cells):
    """Its own limit is far off; the cell's is not."""
    cells = make_cells(memory_bytes_max=1024 * MIB, cell_memory_bytes_max=96 * MIB)
    code = "def run(value):\n    return len(bytearray(b'x') * (value * 2**20))\n"
    assert await cells.value(code, 1) == MIB
    assert (await cells.one(code, 400)).kind == "out_of_memory"
    assert await cells.value(code, 1) == MIB


async def test_groups_go_with_their_cells(groups, make_cells):
    cells = make_cells()
    await cells.value("def run(value):\n    return value\n", 1)
    (root, *_) = cells.pool._groups._roots
    assert [path for path in root.iterdir() if path.is_dir()]
    await cells.close()
    assert not root.exists()


async def test_groups_of_a_worker_that_was_killed_are_swept(groups):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import os, signal; from loopai.sandbox import cgroups; found = cgroups.find(); "
        "found.group(memory_bytes_max=2**26, pids_max=4); os.kill(os.getpid(), signal.SIGKILL)",
    )
    await process.wait()
    (root, *_) = groups._roots
    assert list(root.parent.glob(f"loopai-{process.pid}-*"))
    cgroups.find().close()
    await until(lambda: not list(root.parent.glob(f"loopai-{process.pid}-*")))


# The kernel's version 2: tools/sandbox-under-cgroup2.sh boots one for a machine that has version 1.
@pytest.fixture
def service(groups):
    """A group that offers memory and pids and has no process, as a service manager delegates it."""
    if groups.version != 2:
        pytest.skip("this machine gives us control groups of version 1, and these tests need 2")
    folder = groups._roots[0] / "service"
    folder.mkdir()
    yield folder
    folder.rmdir()


def start_in(service, code):
    """Start a Python that moves itself into *service*, and runs *code* once it reads a line."""
    setup = (
        "import os, pathlib; from loopai.sandbox import cgroups\n"
        "own = lambda: pathlib.Path('/proc/self/cgroup').read_text()\n"
        f"pathlib.Path({str(service)!r}, 'cgroup.procs').write_text(str(os.getpid()))\n"
        "before = own(); print(before, flush=True); input()\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", setup + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.stdout.readline()
    return started


def run_in(service, code):
    started = start_in(service, code)
    _, said = started.communicate("\n")
    assert started.returncode == 0, said


def test_version_2_gives_a_group_its_bounds(groups):
    if groups.version != 2:
        pytest.skip("this machine gives us control groups of version 1")
    group = groups.group(memory_bytes_max=48 * MIB, pids_max=16)
    (folder,) = group._folders
    for file, value in (("memory.max", 48 * MIB), ("memory.swap.max", 0), ("pids.max", 16)):
        assert (folder / file).read_text().strip() == str(value)
    group.close()
    assert not folder.exists()


def test_version_2_leaves_a_group_as_it_was_found(service):
    run_in(
        service,
        "first = cgroups.find(); second = cgroups.find(); assert own() != before\n"
        "second.close(); assert own() != before\n"
        "first.close(); assert own() == before",
    )
    assert not cgroups._groups(service)
    assert not (service / "cgroup.subtree_control").read_text().strip()


def test_version_2_closed_out_of_order_keeps_the_limits_of_the_other(service):
    """What then stays behind, as the process is in it, the next worker sweeps."""
    run_in(
        service,
        "first = cgroups.find(); second = cgroups.find(); first.close()\n"
        "group = second.group(memory_bytes_max=2**26, pids_max=4); group.close(); second.close()",
    )
    assert len(cgroups._groups(service)) == 1
    cgroups._sweep(service)
    assert not cgroups._groups(service)


def test_version_2_beside_other_processes_says_so_and_changes_nothing(service):
    other = start_in(service, "")
    run_in(
        service,
        "try:\n    cgroups.find()\n"
        "except cgroups.UnavailableError as error:\n    assert 'shares' in str(error), error\n"
        "else:\n    raise AssertionError\n"
        "assert own() == before",
    )
    other.communicate("\n")
    assert not cgroups._groups(service)


# The files of version 2 as the kernel lays them out, for machines without it: what we write where.
@pytest.fixture
def proc(tmp_path):
    (tmp_path / "cgroup").write_text("0::/service\n")
    mounts = f"30 20 0:26 / {tmp_path}/fs rw - cgroup2 cgroup2 rw,nsdelegate\n"
    (tmp_path / "mountinfo").write_text(mounts)
    own = tmp_path / "fs" / "service"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu memory pids\n")
    (own / "cgroup.subtree_control").write_text("\n")
    return tmp_path


def test_version_2_moves_the_worker_aside_and_back(proc):
    found = cgroups.find(str(proc))
    assert found.version == 2
    (place,) = found._roots
    assert place.parent == proc / "fs" / "service"
    assert (place / "worker" / "cgroup.procs").read_text() == str(os.getpid())
    assert (place.parent / "cgroup.subtree_control").read_text() == "+memory +pids"
    found.close()
    assert (place.parent / "cgroup.subtree_control").read_text() == "-memory -pids"
    assert (place.parent / "cgroup.procs").read_text() == str(os.getpid())


def test_version_2_is_found_again_beside_the_first(proc):
    """A second pool in this process does not nest below the leaf that the first moved it to."""
    (first,) = cgroups.find(str(proc))._roots
    (proc / "cgroup").write_text(f"0::/service/{first.name}/worker\n")
    (second,) = cgroups.find(str(proc))._roots
    assert second.parent == first.parent
    assert second != first


def test_version_2_without_its_controllers_says_so(proc):
    (proc / "fs" / "service" / "cgroup.controllers").write_text("cpu\n")
    with pytest.raises(cgroups.UnavailableError, match="offers"):
        cgroups.find(str(proc))


def test_kernel_without_control_groups_says_so(tmp_path):
    (tmp_path / "mountinfo").write_text("")
    with pytest.raises(cgroups.UnavailableError, match="may not make them"):
        cgroups.find(str(tmp_path))


def test_machine_without_control_groups_says_so(tmp_path):
    (tmp_path / "cgroup").write_text("")
    (tmp_path / "mountinfo").write_text("")
    with pytest.raises(cgroups.UnavailableError, match="no control groups"):
        cgroups.find(str(tmp_path))


def test_container_s_view_starts_at_its_own_group(tmp_path):
    mount = (pathlib.Path("/sys/fs/cgroup"), "/docker/abc")
    assert cgroups._below(mount, "/docker/abc/x") == pathlib.Path("/sys/fs/cgroup/x")
