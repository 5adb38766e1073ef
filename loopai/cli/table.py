"""Tables of text as people have them in files: CSV, TSV, and the like."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from loopai.cli import failure

FILE_BYTES_MAX: Final = 512 * 1024 * 1024
DELIMITERS: Final = (",", ";", "\t", "|")
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Every row has one cell for each column. `notes` tell what of the file is not in it."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> int:
        """Where the column *name* stands; case counts only where it must."""
        exact = [at for at, column in enumerate(self.columns) if column == name]
        loose = [at for at, column in enumerate(self.columns) if column.lower() == name.lower()]
        if exact or len(loose) == 1:
            return (exact or loose)[0]
        have = ", ".join(self.columns)
        raise failure.Failure(f"{self.name} has no column {name!r}; it has {have}")


def read(path: Path) -> Table:
    """The table in the file *path*. Its first line names the columns.

    .tsv and .tab are plain: a tab ends a field, and quotes are part of the text. All else is read
    as CSV, with the delimiter that splits the first line most.
    """
    text, notes = _decode(path, _content(path))
    plain = path.suffix.lower() in {".tsv", ".tab"}
    lines = _plain(text) if plain else _quoted(text, path)
    header = next(lines, None)
    if header is None:
        raise failure.Failure(f"{path} is empty")
    columns = _columns(path, header)
    rows, odd = _rows(lines, len(columns))
    if odd:
        notes.append(f"{odd} rows left out: they do not have {len(columns)} fields, as the first")
    if not rows:
        raise failure.Failure(f"{path} has no rows below its first line, the column names")
    return Table(name=str(path), columns=columns, rows=tuple(rows), notes=tuple(notes))


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise failure.Failure(f"{path} is larger than {FILE_BYTES_MAX} bytes")
        return path.read_bytes()
    except OSError as error:
        raise failure.Failure(f"{path}: {error.strerror}") from error


def _decode(path: Path, content: bytes) -> tuple[str, list[str]]:
    if b"\0" in content:
        raise failure.Failure(f"{path} is not a text file in UTF-8: it holds NUL bytes")
    text = content.decode("utf-8-sig", errors="replace")
    already = content.count(REPLACEMENT.encode())
    replaced = text.count(REPLACEMENT) - already
    notes = [f"{replaced} bytes are not UTF-8 and read as {REPLACEMENT}"] if replaced else []
    return text, notes


def _plain(text: str) -> Iterator[list[str]]:
    # Not splitlines(): texts may hold U+2028 and other characters that it takes for line ends.
    for line in text.split("\n"):
        if bare := line.removesuffix("\r"):
            yield bare.split("\t")


def _quoted(text: str, path: Path) -> Iterator[list[str]]:
    first = text.lstrip("\r\n").partition("\n")[0]
    widths = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda mark: widths[mark])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise failure.Failure(f"{path}, line {reader.line_num}: {error}") from error


def _columns(path: Path, header: list[str]) -> tuple[str, ...]:
    names = [cell.strip() or f"column {at}" for at, cell in enumerate(header, start=1)]
    if all(_is_number(name) for name in names):
        raise failure.Failure(f"{path}: the first line must name the columns; it holds numbers")
    for at, name in enumerate(names):
        if name in names[:at]:
            raise failure.Failure(f"{path} has two columns {name!r}")
    return tuple(names)


def _rows(lines: Iterable[list[str]], width: int) -> tuple[list[tuple[str, ...]], int]:
    rows, odd = [], 0
    for line in lines:
        if len(line) == width:
            rows.append(tuple(line))
        else:
            odd += 1
    return rows, odd


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
