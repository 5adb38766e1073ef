"""What a part of the bench found: figures in a table, as text or as JSON."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from rich import table

Unit = Literal["s", "MB", "a second", "times", ""]


class Figure(msgspec.Struct, frozen=True):
    """A measured *value*, in seconds and megabytes; the table chooses what it shows them in."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        match self.unit:
            case "s" if self.value >= 1:
                return f"{self.value:,.1f} s"
            case "s" if self.value >= 1e-3:
                return f"{self.value * 1e3:,.1f} ms"
            case "s":
                return f"{self.value * 1e6:,.0f} µs"
            case "MB":
                return f"{self.value:,.1f} MB"
            case _:
                return f"{self.value:,.0f}"


Row = Mapping[str, Figure | str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    """By column; what a row lacks stays empty."""
    failures: Sequence[str] = ()
    """What must not be: one sentence each. The bench ends with exit code 1."""

    def shown(self) -> table.Table:
        shown = table.Table(*self.columns, title=self.title)
        for row in self.rows:
            shown.add_row(*(str(row.get(column, "")) for column in self.columns))
        return shown
