"""What commands print: results to stdout, everything said along the way to stderr."""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec
from rich import box, console, table

PIPED_COLUMNS: Final = 250
"""Width of tables that a file or another program takes: an id stays in one piece there."""


def stderr() -> console.Console:
    return console.Console(stderr=True, highlight=False, markup=False)


def stdout() -> console.Console:
    # Rich takes 80 columns where nobody says how many there are, and folds ids for that.
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    width = PIPED_COLUMNS if piped else None
    return console.Console(highlight=False, markup=False, width=width)


def print_json(body: bytes) -> None:
    """*body*, which is JSON, indented where a person reads it and on one line elsewhere."""
    text = msgspec.json.format(body, indent=2 if sys.stdout.isatty() else -1)
    print_line(text.decode())


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_bytes(lines: bytes) -> None:
    """*lines*, with their ends, as they are."""
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def grid(columns: Iterable[str], rows: Iterable[Iterable[str]], title: str = "") -> table.Table:
    """A table of text cells; columns whose head ends in `#` hold numbers and stand to the right."""
    columns = tuple(columns)
    drawn = table.Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=any(column.rstrip("#") for column in columns),
    )
    for column in columns:
        # Folded, because an id that ends in an ellipsis is of no use to anybody.
        drawn.add_column(
            column.rstrip("#"),
            justify="right" if column.endswith("#") else "left",
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*row)
    return drawn
