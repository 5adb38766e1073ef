"""The folder of program texts: what is left of crashes, full disks, other writers and versions."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from loopai.catalog.stores import filesystem, store
from streams.messages import ProgramArtifact
from tests.unit.catalog import writers

CODE = "def run(input):\n    return 'ü'\n"
NAME = store.digest(CODE)


def _path(root: Path, name: str) -> Path:
    return root / "by-digest" / name[:2] / name


def _left_over(root: Path) -> list[Path]:
    return [each for each in root.rglob("*") if each.name.startswith(filesystem.WRITING)]


def _artifact(version: int = 1) -> ProgramArtifact:
    return writers.artifact(version, CODE)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A store whose folder is no folder is an error of the store, with the reason."""
    (tmp_path / "root").write_text("a file")
    there = filesystem.FilesystemStore(tmp_path / "root")
    with pytest.raises(store.StoreError, match=r"cannot write .*root.*: Not a directory"):
        await there.put(CODE)


async def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """A write that fails in the middle leaves no text and no rubbish, and can be repeated."""
    there = filesystem.FilesystemStore(tmp_path)
    code = "#" * 100_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(store.StoreError, match="cannot write"):
            await there.put(code)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not _path(tmp_path, store.digest(code)).exists()
    assert _left_over(tmp_path) == []
    assert await there.get(await there.put(code)) == code


async def test_an_intact_text_is_left_alone(tmp_path):
    """Uploading what is there already writes nothing: readers of the file are not disturbed."""
    there = filesystem.FilesystemStore(tmp_path)
    await there.put(CODE)
    before = _path(tmp_path, NAME).stat().st_ino
    await there.put(CODE)
    assert _path(tmp_path, NAME).stat().st_ino == before


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", CODE.encode()[:-1]])
async def test_a_text_cut_short_is_mended_by_putting_it_again(tmp_path, damage):
    """A file that a power cut emptied does not stand in the way of the right one."""
    there = filesystem.FilesystemStore(tmp_path)
    await there.put(CODE)
    _path(tmp_path, NAME).unlink()
    _path(tmp_path, NAME).write_bytes(damage)
    with pytest.raises(store.DigestMismatch):
        await there.get(NAME)
    await there.put(CODE)
    assert await there.get(NAME) == CODE


async def test_texts_of_earlier_versions_are_found(tmp_path):
    """They lie in `<two digits>/<digest>`; the version that is shown is made of them."""
    old = tmp_path / NAME[:2] / NAME
    old.parent.mkdir()
    old.write_text(CODE)
    there = filesystem.FilesystemStore(tmp_path)
    assert await there.get(NAME) == CODE
    await there.shelve("default", "upper", _artifact())
    assert (tmp_path / "default/upper/v1/program.py").read_text() == CODE
    old.write_text("another")
    with pytest.raises(store.DigestMismatch):
        await there.get(NAME)
    await there.put(CODE)
    assert await there.get(NAME) == CODE


async def test_versions_are_laid_out_for_people(tmp_path):
    """The program is the stored text itself, not a copy; `active` leads to its version."""
    there = filesystem.FilesystemStore(tmp_path)
    await there.put(CODE)
    await there.shelve("default", "upper", _artifact(3))
    await there.point("default", "upper", 3)
    version = tmp_path / "default" / "upper" / "v3"
    assert (version / "program.py").samefile(_path(tmp_path, NAME))
    described = (version / "metadata.json").read_text()
    assert described.splitlines()[1] == '  "id": "a",'
    assert msgspec.json.decode(described, type=ProgramArtifact) == _artifact(3)
    active = tmp_path / "default" / "upper" / "active"
    assert active.readlink() == Path("v3")
    assert (active / "program.py").read_text() == CODE
    for folder in (version, version.parent):
        assert folder.stat().st_mode & 0o777 == 0o755
    for name in ("program.py", "metadata.json"):
        assert (version / name).stat().st_mode & 0o777 == 0o444


async def test_where_there_are_no_links_there_are_copies(tmp_path, monkeypatch):
    """A file system without hard links holds the text twice."""

    def refused(*_args, **_more):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    there = filesystem.FilesystemStore(tmp_path)
    await there.put(CODE)
    await there.shelve("default", "upper", _artifact())
    program = tmp_path / "default/upper/v1/program.py"
    assert program.read_text() == CODE
    assert program.stat().st_nlink == 1
    assert _left_over(tmp_path) == []


async def test_a_group_that_shares_the_root_shares_what_is_in_it(tmp_path):
    """Services that run as different users of one group do not lock each other out."""
    tmp_path.chmod(0o775)
    there = filesystem.FilesystemStore(tmp_path)
    await there.put(CODE)
    await there.shelve("default", "upper", _artifact())
    folders = [each for each in tmp_path.rglob("*") if each.is_dir()]
    assert len(folders) == 5
    assert {each.stat().st_mode & 0o777 for each in folders} == {0o775}


async def test_what_a_crash_left_goes_when_it_is_old(tmp_path):
    """At a start; what may still be written stays, and so does what is no left-over."""
    there = filesystem.FilesystemStore(tmp_path)
    await there.put(CODE)
    long_ago = time.time() - filesystem.LEFT_OVER_S - 1
    for name in ("old", "fresh"):
        (tmp_path / f".writing-{name}").write_text("half")
        folder = tmp_path / f".writing-folder-{name}"
        folder.mkdir()
        (folder / "program.py").write_text("half")
    for name in ("old", "folder-old"):
        os.utime(tmp_path / f".writing-{name}", (long_ago, long_ago))
    os.utime(_path(tmp_path, NAME), (long_ago, long_ago))
    await there.check(writes=False)
    assert len(_left_over(tmp_path)) == 4
    await there.check(writes=True)
    assert {each.name for each in _left_over(tmp_path)} == {
        ".writing-fresh",
        ".writing-folder-fresh",
    }
    assert await there.get(NAME) == CODE


async def test_fifty_writers_in_several_processes_agree(tmp_path):
    """The same text and version from all of them, and of each its own: all whole, none lost."""
    started = [_writer(tmp_path, *map(str, range(at, at + 10))) for at in range(0, 50, 10)]
    for each in started:
        _go(each)
    assert [_ended(each)[0] for each in started] == [0] * 5
    there = filesystem.FilesystemStore(tmp_path)
    for code in [writers.SAME, *(writers.own(number) for number in range(50))]:
        assert await there.get(store.digest(code)) == code
    for number in range(50):
        shown = tmp_path / f"default/own/v{number + 1}/program.py"
        assert shown.read_text() == writers.own(number)
    assert (tmp_path / "default/same/active/program.py").read_text() == writers.SAME
    assert {each.name for each in (tmp_path / "default/same").iterdir()} == {"active", "v1"}
    assert _left_over(tmp_path) == []


async def test_a_writer_killed_at_any_step_leaves_a_store_that_works(tmp_path):
    """SIGKILL before each thing that it does: what has its name is whole, and the rest can be."""
    killed = _writer(tmp_path, "crash")
    _go(killed)
    status, said = _ended(killed)
    steps = int(said)
    assert status == 0
    assert 30 < steps < writers.STEPS_MAX
    for step in range(1, steps + 1):
        root = tmp_path / str(step)
        _assert_whole(root)
        # One look into the root finds all that is not whole.
        assert all(each.parent == root for each in _left_over(root))
        await writers.replace(root)
        assert (root / "default/upper/active/program.py").read_text() == writers.LATER


def _writer(root: Path, *order: str) -> subprocess.Popen[bytes]:
    """A process that does what `writers` has for *order*, once it is told to."""
    made = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.catalog.writers", str(root), *order],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert made.stdout is not None
    assert made.stdout.readline() == b"ready\n"
    return made


def _go(writer: subprocess.Popen[bytes]) -> None:
    assert writer.stdin is not None
    writer.stdin.write(b"\n")
    writer.stdin.flush()


def _ended(writer: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    said, _ = writer.communicate(timeout=60)
    return writer.returncode, said


def _assert_whole(root: Path) -> None:
    for path in root.glob("by-digest/*/*"):
        assert store.matches(path.read_bytes(), path.name), path
    for version in root.glob("*/*/v*"):
        described = msgspec.json.decode((version / "metadata.json").read_bytes())
        assert store.matches((version / "program.py").read_bytes(), described["digest"])
