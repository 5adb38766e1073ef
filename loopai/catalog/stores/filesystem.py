"""Program texts in a folder: written once, checked at every read, laid out for people to read."""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from loopai.catalog.stores import store
from streams.messages import ProgramArtifact

T = TypeVar("T")

WRITING: Final = ".writing-"
"""What is not whole yet begins with this, in the root: one look there finds what a crash left."""
LEFT_OVER_S: Final = 3600.0
"""Older than this nobody is writing it any more."""
SWAP_ATTEMPTS: Final = 32
"""Each is lost to another writer of the same version."""


class FilesystemStore:
    """Texts below *root*. Any number of processes may write, and may be killed at any moment."""

    def __init__(self, root: Path) -> None:
        self.url = root.absolute().as_uri()
        self._root = root

    async def check(self, *, writes: bool) -> None:
        """See that the folder can be used, making it where it is not there. StoreError."""
        await self._do("use", self._root, lambda: self._check(writes=writes))

    async def put(self, code: str) -> str:
        text = store.encoded(code)
        name = store.digest(code)
        path = self._root / store.by_digest(name)
        await self._do("write", path, lambda: self._put(path, text))
        return name

    async def get(self, digest: str) -> str:
        path = self._root / store.by_digest(digest)
        text = await self._do("read", path, lambda: self._read(path))
        return store.verified(text, digest, path)

    async def shelve(self, tenant: str, task: str, artifact: ProgramArtifact) -> None:
        shelf = self._root / store.shelf(tenant, task)
        version = shelf / store.version_name(artifact.version)
        text = self._root / store.by_digest(artifact.digest)
        await self._do("write", version, lambda: self._shelve(version, text, artifact))

    async def shown(self, tenant: str, task: str, version: int) -> ProgramArtifact | None:
        folder = self._root / store.shelf(tenant, task) / store.version_name(version)
        with contextlib.suppress(store.Missing):
            path = folder / "metadata.json"
            return store.described(await self._do("read", path, path.read_bytes))
        return None

    async def point(self, tenant: str, task: str, version: int | None) -> None:
        active = self._root / store.shelf(tenant, task) / "active"
        target = None if version is None else store.version_name(version)
        await self._do("write", active, lambda: self._point(active, target))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _do(self, what: str, path: Path, work: Callable[[], T]) -> T:
        """*work* in a thread: a disk may be slow, and a network's folder very."""
        try:
            return await asyncio.to_thread(work)
        except FileNotFoundError as error:
            raise store.Missing(f"cannot {what} {path}: {error.strerror}") from error
        except OSError as error:
            raise store.StoreError(f"cannot {what} {path}: {error.strerror}") from error

    def _check(self, *, writes: bool) -> None:
        if not self._root.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
            _sync(self._root.parent)
        with os.scandir(self._root) as entries:
            left = [each.name for each in entries if each.name.startswith(WRITING)]
        if not writes:
            return
        self._temporary(b"").unlink()
        for name in left:
            _remove_if_old(self._root / name)

    def _found(self, path: Path) -> Path:
        """Where the text of *path* is: earlier versions of Loopai had it one folder higher."""
        earlier = self._root / path.parent.name / path.name
        return earlier if not path.exists() and earlier.is_file() else path

    def _read(self, path: Path) -> bytes:
        with self._found(path).open("rb") as file:
            # Of a file that is too large no more than shows that it is not the right one.
            return file.read(store.TEXT_BYTES_MAX + 1)

    def _is_intact(self, path: Path, name: str) -> bool:
        try:
            return store.matches(self._read(path), name)
        except FileNotFoundError:
            return False

    def _put(self, path: Path, text: bytes) -> None:
        # A damaged file is replaced; an intact one is left alone.
        if self._is_intact(path, path.name):
            # Whoever wrote it may not have come to this yet.
            self._sync_up(self._found(path).parent)
            return
        self._make(path.parent)
        temporary = self._temporary(text)
        try:
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        # The name must survive a power cut as well as the bytes do.
        self._sync_up(path.parent)

    def _shelve(self, version: Path, text: Path, artifact: ProgramArtifact) -> None:
        described = store.metadata(artifact)
        program = store.program_name(artifact)
        # A text that is missing or damaged is not shown as a version.
        store.verified(self._read(text), artifact.digest, text)

        def is_there() -> bool:
            with contextlib.suppress(FileNotFoundError):
                if (version / "metadata.json").read_bytes() == described:
                    return store.matches((version / program).read_bytes(), artifact.digest)
            return False

        if is_there():
            return
        self._make(version.parent)
        building = self._building(version.parent)
        try:
            self._copy(self._found(text), building / program)
            self._temporary(described).rename(building / "metadata.json")
            _sync(building)
            self._swap(building, version, is_there)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        self._sync_up(version.parent)

    def _swap(self, building: Path, version: Path, is_there: Callable[[], bool]) -> None:
        """Let *building* be *version*, unless another writer of the same was faster."""
        for _ in range(SWAP_ATTEMPTS):
            try:
                building.rename(version)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
            else:
                return
            if is_there():
                return
            # It is of a task that had this name before. What holds something is not replaced in one
            # step: after a crash in between it is gone until somebody shelves it again.
            aside = self._building(self._root)
            with contextlib.suppress(FileNotFoundError):
                version.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        raise OSError(errno.EBUSY, "others keep writing the same version")

    def _point(self, active: Path, target: str | None) -> None:
        if target is None:
            active.unlink(missing_ok=True)
        else:
            self._make(active.parent)
            link = self._root / f"{WRITING}{secrets.token_hex(8)}"
            link.symlink_to(target)
            try:
                link.replace(active)
            except OSError:
                link.unlink(missing_ok=True)
                raise
        if active.parent.is_dir():
            self._sync_up(active.parent)

    def _copy(self, text: Path, shown: Path) -> None:
        try:
            shown.hardlink_to(text)
        except OSError:
            # Not every file system has links, nor may every user make one to another's file.
            self._temporary(text.read_bytes()).rename(shown)

    def _temporary(self, text: bytes) -> Path:
        """A file with *text*, on the disk, that is not in its place yet."""
        handle, name = tempfile.mkstemp(dir=self._root, prefix=WRITING)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                # Pools that run as other users must read it; what it holds is no secret to them.
                # Nobody is to write it: a version shown is the same file as the text by digest.
                os.fchmod(file.fileno(), 0o444)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _building(self, beside: Path) -> Path:
        """An empty folder that is not in its place yet."""
        path = Path(tempfile.mkdtemp(dir=self._root, prefix=WRITING))
        path.chmod(0o755 | _group_writes(beside))
        return path

    def _make(self, folder: Path) -> None:
        """*folder*, and what is missing of those above it."""
        if folder.is_dir():
            return
        if folder == self._root:
            folder.mkdir(parents=True, exist_ok=True)
            return
        self._make(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            # Where a group shares the root, its members share what is made in it.
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | _group_writes(folder.parent))

    def _sync_up(self, folder: Path) -> None:
        """Put the names in *folder*, and those that lead to it, on the disk."""
        for each in (folder, *folder.parents):
            _sync(each)
            if each == self._root:
                return


_OCCUPIED: Final = (errno.ENOTEMPTY, errno.EEXIST)


def _group_writes(folder: Path) -> int:
    return folder.stat().st_mode & stat.S_IWGRP


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_if_old(path: Path) -> None:
    with contextlib.suppress(OSError):  # it may be another user's, or gone
        if time.time() - path.lstat().st_mtime < LEFT_OVER_S:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
