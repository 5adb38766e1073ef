"""Program texts by digest in a folder: written once, checked at every read."""

import asyncio
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


class StoreError(Exception):
    """The store cannot be read or written; the message names the file and the reason."""


class DigestMismatch(StoreError):  # noqa: N818 (it says what is the matter)
    """What lies in the store is not what was put there: it must not run."""


def digest(code: str) -> str:
    """sha256 of *code* in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(code.encode()).hexdigest()


class FilesystemStore:
    """Texts below *root*, in `<first two digits>/<digest>`. Any number of processes may write."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, code: str) -> str:
        """Store *code* durably; its digest. StoreError when the folder cannot be written."""
        name = digest(code)
        try:
            await asyncio.to_thread(self._write, self._path(name), code.encode())
        except OSError as error:
            raise StoreError(f"cannot write {self._path(name)}: {error.strerror}") from error
        return name

    async def get(self, name: str) -> str:
        """The text of digest *name*. StoreError when it is missing, DigestMismatch if damaged."""
        try:
            text = await asyncio.to_thread(self._path(name).read_bytes)
        except OSError as error:
            raise StoreError(f"cannot read {self._path(name)}: {error.strerror}") from error
        if hashlib.sha256(text).hexdigest() != name:
            raise DigestMismatch(f"{self._path(name)} does not hold what its name says")
        return text.decode()

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name

    def _write(self, path: Path, text: bytes) -> None:
        # A damaged file is replaced; an intact one is left alone.
        with contextlib.suppress(FileNotFoundError):
            if hashlib.sha256(path.read_bytes()).hexdigest() == path.name:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                # Pools that run as other users must read it; what it holds is no secret to them.
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).rename(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        # The name must survive a power cut as well as the bytes do.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
