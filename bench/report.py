"""What a part of the bench found: figures in a table, as text or as JSON, and in plots."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from rich import table

Unit = Literal["s", "MB", "a second", "times", "ratio", ""]


class Unavailable(Exception):  # noqa: N818  # a state, not a mistake of ours
    """The machine lacks what a part needs; the message says what to do."""


class Figure(msgspec.Struct, frozen=True):
    """A measured *value*, in seconds and megabytes; the table chooses what it shows them in."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        match self.unit:
            case "s":
                return _seconds(self.value)
            case "MB":
                return f"{self.value:,.1f} MB"
            case "ratio":
                return f"{self.value:,.2f}"
            case _:
                return f"{self.value:,.0f}"


def _seconds(value: float) -> str:
    for unit_s, name in ((1, "s"), (1e-3, "ms")):
        if value >= unit_s:
            return f"{value / unit_s:,.1f} {name}"
    return f"{value * 1e6:,.0f} µs" if value >= 1e-6 else f"{value * 1e9:,.0f} ns"


Row = Mapping[str, Figure | str]

Role = Literal["ours", "reference", "other", "part", "part in two"]
"""Which colours a series has; `part in two` has a dark and a light one for each two of a kind."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    values: Sequence[float | None]
    """One for each group of the panel; None where there is none."""
    role: Role = "other"


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One diagram of the part's picture."""

    title: str
    """What is shown, its unit, and which way is better."""
    groups: Sequence[str]
    """Along the axis, in its order and at equal distances."""
    series: Sequence[Series]
    axis: str = ""
    kind: Literal["bars", "lines", "stacked"] = "bars"
    """Stacked bars lie: a bar for each group, the first on top."""
    logarithmic: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    """By column; what a row lacks stays empty."""
    notes: Sequence[str] = ()
    """Sentences for under the table."""
    panels: Sequence[Panel] = ()
    """Of one picture, from above; without any there is none."""
    failures: Sequence[str] = ()
    """What must not be: one sentence each. The bench ends with exit code 1."""

    def shown(self) -> table.Table:
        caption = "\n".join(self.notes) or None
        shown = table.Table(
            *self.columns, title=self.title, caption=caption, caption_justify="left"
        )
        for cells in self._cells():
            shown.add_row(*cells)
        return shown

    def markdown(self) -> str:
        """The table and its notes."""
        lines = [self.columns, ["---"] * len(self.columns), *self._cells()]
        rows = ["| " + " | ".join(cells) + " |" for cells in lines]
        return "\n".join(["\n".join(rows), *(f"\n{note}" for note in self.notes)])

    def _cells(self) -> list[list[str]]:
        return [[str(row.get(column, "")) for column in self.columns] for row in self.rows]
