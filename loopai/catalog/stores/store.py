"""What every store of program texts does, whatever it keeps them in; and a store from its URL."""

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec

from loopai import errors
from loopai.catalog.stores import location
from streams import subjects
from streams.messages import Language, ProgramArtifact

TEXT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one text. Screening lets 1 MiB pass; of what is larger no more than this is ever read."""
SUFFIXES: Final[dict[Language, str]] = {
    "python": ".py",
    "javascript": ".js",
    "typescript": ".ts",
    "csharp": ".cs",
}
"""Of the file that a person reads."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class StoreError(Exception):
    """The store cannot be read or written; the message names the place and the reason."""


class Missing(StoreError):  # noqa: N818 (it says what is the matter)
    """There is no such text."""


class DigestMismatch(StoreError):  # noqa: N818 (it says what is the matter)
    """What lies in the store is not what was put there: it must not run."""


class Texts(Protocol):
    """Texts by digest. All methods raise StoreError."""

    async def put(self, code: str) -> str:
        """Store *code* durably; its digest. What is there and intact is left alone."""

    async def get(self, digest: str) -> str:
        """The text of *digest*, checked. Missing, DigestMismatch."""


class Shelves(Protocol):
    """Beside the texts, for people to read: which version of which task they are. StoreError."""

    async def shelve(self, tenant: str, task: str, artifact: ProgramArtifact) -> None:
        """Show *artifact*, whose text was put, as a version of *task*. Repeating changes nothing.

        A version of the same number, of a task that had the name before, is replaced.
        """

    async def shown(self, tenant: str, task: str, version: int) -> ProgramArtifact | None:
        """What is shown as that version of *task*; None where nothing is that can be understood."""

    async def point(self, tenant: str, task: str, version: int | None) -> None:
        """Show *version* as the active one of *task*; None: there is none."""


class Store(Texts, Shelves, Protocol):
    """One place for both, which any number of processes may use. Whoever opened it closes it."""

    url: str
    """Where it is, as configured, without secrets."""

    async def close(self) -> None: ...


@contextlib.asynccontextmanager
async def opened(url: str, *, writes: bool = True) -> AsyncIterator[Store]:
    """The store at *url* while inside. StartupError when it cannot be read (with *writes* written).

    A reader may lack the right to write: an executor needs no more than to read.
    """
    place = location.parse(url)
    try:
        made = await _made(place, writes=writes)
    except StoreError as error:
        raise location.wrong(place.url, str(error)) from error
    try:
        yield made
    finally:
        await made.close()


async def _made(place: location.Place, *, writes: bool) -> Store:
    # Imported here: both use this module, and aioboto3 is optional and takes half a second.
    if isinstance(place, location.Folder):
        from loopai.catalog.stores import filesystem  # noqa: PLC0415

        folder = filesystem.FilesystemStore(place.path)
        await folder.check(writes=writes)
        return folder
    try:
        from loopai.catalog.stores import s3  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise location.wrong(
            place.url, f"there is no {error.name} here; pip install 'loopai[s3]'"
        ) from error
    return await s3.S3Store.connected(place)


def digest(code: str) -> str:
    """sha256 of *code* in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(code.encode()).hexdigest()


def matches(text: bytes, name: str) -> bool:
    """Whether *text* is the one of digest *name*."""
    return hashlib.sha256(text).hexdigest() == name


def verified(text: bytes, name: str, place: object) -> str:
    """*text*, read from *place*, if its digest is *name*; else DigestMismatch."""
    if not matches(text, name):
        raise DigestMismatch(f"{place} does not hold what its name says: sha256 {name}")
    return text.decode()


def encoded(code: str) -> bytes:
    """The bytes to be stored. StoreError when they are more than are ever read."""
    text = code.encode()
    if len(text) > TEXT_BYTES_MAX:
        raise StoreError(f"a text of {len(text)} bytes is not stored; the most is {TEXT_BYTES_MAX}")
    return text


def by_digest(name: str) -> str:
    """Where the text of digest *name* lies below the root. Missing when that is no digest."""
    # Digests come from the bus, where others may write: one must not lead out of the root.
    if _DIGEST.fullmatch(name) is None:
        raise Missing(f"no sha256 in hexadecimal digits, so no text has it: {name[:80]!r}")
    return f"by-digest/{name[:2]}/{name}"


def shelf(tenant: str, task: str) -> str:
    """Where the versions of *task* are shown below the root. StoreError when they are no names.

    A name begins with a letter or a digit and holds no slash: it cannot lead out of the root, and
    no `v3` is a digest, so a tenant that is called `by-digest` is in nobody's way.
    """
    for name in (tenant, task):
        if not subjects.is_name(name):
            raise StoreError(f"not a name, so nothing is kept under it: {name[:130]!r}")
    return f"{tenant}/{task}"


def version_name(version: int) -> str:
    """`v3`. StoreError when *version* is none that an artifact has."""
    if version < 1:
        raise StoreError(f"versions begin with 1: {version}")
    return f"v{version}"


def program_name(artifact: ProgramArtifact) -> str:
    """`program.py`, or what its language wants."""
    return f"program{SUFFIXES.get(artifact.language, '.txt')}"


def metadata(artifact: ProgramArtifact) -> bytes:
    """*artifact* as JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(artifact), indent=2) + b"\n"


def described(content: bytes) -> ProgramArtifact | None:
    """The artifact of *content*, which somebody may have edited; None where it is none."""
    try:
        return msgspec.json.decode(content, type=ProgramArtifact)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def problem(error: StoreError) -> errors.ApiError:
    """What *error* means to a caller of the API, or to one who waits for an execution."""
    if isinstance(error, DigestMismatch):
        return errors.ApiError("PROGRAM_DAMAGED", str(error))
    return errors.ApiError("STORE_UNAVAILABLE", str(error), retry_after_s=RETRY_AFTER_S)


RETRY_AFTER_S: Final = 5
"""What a caller is told to wait: a disk is not emptied, nor an endpoint mended, in less."""
