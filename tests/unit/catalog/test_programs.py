import asyncio
import resource
from pathlib import Path

import pytest

from loopai.catalog import programs

CODE = "def run(input):\n    return 'ü'\n"


def _path(root: Path, name: str) -> Path:
    return root / name[:2] / name


def _left_over(root: Path) -> list[Path]:
    return [each for each in root.rglob("*") if each.name.startswith(".writing-")]


async def test_what_was_put_is_got(tmp_path):
    """A text comes back as it was, by its sha256."""
    store = programs.FilesystemStore(tmp_path / "not yet there")
    name = await store.put(CODE)
    assert name == programs.digest(CODE)
    assert await store.get(name) == CODE


async def test_a_flipped_byte_is_noticed(tmp_path):
    """A text that changed on disk is refused rather than run."""
    store = programs.FilesystemStore(tmp_path)
    name = await store.put(CODE)
    path = _path(tmp_path, name)
    text = bytearray(path.read_bytes())
    text[5] ^= 1
    path.write_bytes(text)
    with pytest.raises(programs.DigestMismatch, match=name):
        await store.get(name)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", CODE.encode()[:-1]])
async def test_a_damaged_text_is_mended_by_putting_it_again(tmp_path, damage):
    """A file cut short by a crash does not stand in the way of the right one."""
    store = programs.FilesystemStore(tmp_path)
    name = await store.put(CODE)
    _path(tmp_path, name).write_bytes(damage)
    with pytest.raises(programs.DigestMismatch):
        await store.get(name)
    await store.put(CODE)
    assert await store.get(name) == CODE


async def test_a_missing_text_is_named(tmp_path):
    """An operator reads which file is gone."""
    name = programs.digest(CODE)
    with pytest.raises(programs.StoreError, match=f"cannot read .*{name}: No such file"):
        await programs.FilesystemStore(tmp_path).get(name)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A store whose folder is no folder is an error of the store, with the reason."""
    (tmp_path / "root").write_text("a file")
    store = programs.FilesystemStore(tmp_path / "root")
    with pytest.raises(programs.StoreError, match=r"cannot write .*root.*: Not a directory"):
        await store.put(CODE)


async def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """A write that fails in the middle leaves no text and no rubbish, and can be repeated."""
    store = programs.FilesystemStore(tmp_path)
    code = "#" * 100_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(programs.StoreError, match="cannot write"):
            await store.put(code)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not _path(tmp_path, programs.digest(code)).exists()
    assert _left_over(tmp_path) == []
    assert await store.get(await store.put(code)) == code


async def test_many_writers_of_one_text_agree(tmp_path):
    """Writers of the same text at the same time leave one whole file."""
    stores = [programs.FilesystemStore(tmp_path) for _ in range(8)]
    names = await asyncio.gather(*(store.put(CODE) for store in stores for _ in range(8)))
    assert set(names) == {programs.digest(CODE)}
    assert await stores[0].get(names[0]) == CODE
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [_path(tmp_path, names[0])]


async def test_an_intact_text_is_left_alone(tmp_path):
    """Uploading what is there already writes nothing: readers of the file are not disturbed."""
    store = programs.FilesystemStore(tmp_path)
    name = await store.put(CODE)
    before = _path(tmp_path, name).stat().st_ino
    await store.put(CODE)
    assert _path(tmp_path, name).stat().st_ino == before
