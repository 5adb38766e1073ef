"""Tables of text as people have them in files: CSV, TSV, and the like."""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from loopai.cli import failure

FILE_BYTES_MAX: Final = 512 * 1024 * 1024
DELIMITERS: Final = (",", ";", "\t", "|")
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
NAMES_TOLD_MAX: Final = 40
"""How many columns a message lists."""


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
        raise failure.Failure(f"{self.name} has no column {name!r}; {self._instead(name)}")

    def _instead(self, name: str) -> str:
        spelled = {column.lower(): column for column in self.columns}
        close = difflib.get_close_matches(name.lower(), spelled, n=1)
        hint = f"did you mean {spelled[close[0]]!r}? It has " if close else "it has "
        more = len(self.columns) - NAMES_TOLD_MAX
        tail = f", and {more} more" if more > 0 else ""
        return hint + ", ".join(self.columns[:NAMES_TOLD_MAX]) + tail


def read(path: Path) -> Table:
    """The table in the file *path*. Its first line names the columns.

    .tsv and .tab are plain: a tab ends a field, and quotes are part of the text. All else, and what
    is only called so but has no tabs, is read as CSV, with the delimiter that splits the first line
    most, or that a line `sep=` above it tells.
    """
    text, notes = _decode(path, _content(path))
    plain = path.suffix.lower() in {".tsv", ".tab"} and "\t" in text
    lines = _plain(text) if plain else _quoted(text, path)
    header = next(lines, None)
    if header is None:
        raise failure.Failure(f"{path} is empty")
    columns = _columns(path, header)
    rows, odd = _rows(lines, len(columns))
    if not rows and not odd:
        raise failure.Failure(f"{path} has no rows below its first line, the column names")
    if not rows:
        raise failure.Failure(
            f"{path}: the first line must name the columns; it has {len(columns)} fields, and none "
            f"of the {odd} rows below has as many"
        )
    if odd:
        notes.append(f"{odd} rows left out: they do not have {len(columns)} fields, as the first")
    return Table(name=str(path), columns=columns, rows=tuple(rows), notes=tuple(notes))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # The size that the system tells is no bound: a device or a pipe has none.
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise failure.Failure(f"{path}: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise failure.Failure(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return content


def _decode(path: Path, content: bytes) -> tuple[str, list[str]]:
    if b"\0" in content:
        raise failure.Failure(f"{path} is not a text file in UTF-8: it holds NUL bytes")
    text = content.decode("utf-8-sig", errors="replace")
    already = content.count(REPLACEMENT.encode())
    replaced = text.count(REPLACEMENT) - already
    notes = [f"{replaced} bytes are not UTF-8 and read as {REPLACEMENT}"] if replaced else []
    return text, notes


def _plain(text: str) -> Iterator[list[str]]:
    if "\n" not in text:
        text = text.replace("\r", "\n")
    # Not splitlines(): texts may hold U+2028 and other characters that it takes for line ends.
    for line in text.split("\n"):
        if bare := line.removesuffix("\r"):
            yield bare.split("\t")


def _quoted(text: str, path: Path) -> Iterator[list[str]]:
    # The default, 128 KiB, is less than some texts have.
    csv.field_size_limit(FILE_BYTES_MAX)
    source = io.StringIO(text, newline="")
    told = re.match(r"sep=(.)\r?\n", text)
    delimiter = told[1] if told else _delimiter(source)
    # Spaces before a quote would make it, and the delimiters behind it, a part of the text.
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        if told:
            next(reader)
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise failure.Failure(f"{path}, line {reader.line_num}: {error}") from error


def _delimiter(source: io.StringIO) -> str:
    """The one that splits the first row of *source* most; the row may have several lines."""
    widths = {}
    for mark in DELIMITERS:
        rows = csv.reader(source, delimiter=mark, skipinitialspace=True)
        widths[mark] = len(next((row for row in rows if row), []))
        source.seek(0)
    return max(DELIMITERS, key=lambda mark: widths[mark])


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
