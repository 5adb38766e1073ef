"""Rows with a right answer each, and the JSON schemas that fit them."""

import math
import random
import re
from collections import Counter
from typing import Any, Final, Literal

import msgspec

from loopai.cli import failure, table
from streams import messages

Value = str | int | float | bool | None
Kind = Literal["integer", "number", "boolean", "string"]

INTEGER_MAX: Final = 2**53
"""Larger whole numbers are not exact in JSON; such columns stay text."""
INTEGER_CLASSES_MAX: Final = 20
"""Whole numbers with more different values than this are a quantity, not classes."""
EXAMPLES_MIN: Final = 20
"""With fewer the engine makes no program."""
ROWS_MIN: Final = EXAMPLES_MIN + 1
MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""What stands for "no value" in a column whose other cells are all of one type but text."""

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,15})")


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the inputs: where it comes from, what it is called, what it holds."""

    at: int
    field: str
    kind: Kind
    nullable: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    input: msgspec.Raw
    output: Value


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """Shuffled rows, cut into the examples to learn from and the rows that stay unseen."""

    name: str
    description: str
    input_schema: dict[str, Any]  # Any: a JSON Schema
    output_schema: dict[str, Any]  # Any: a JSON Schema
    examples: tuple[Row, ...]
    unseen: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def task_examples(self) -> tuple[messages.Example, ...]:
        return tuple(
            messages.Example(input=row.input, output=msgspec.Raw(msgspec.json.encode(row.output)))
            for row in self.examples
        )


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What of a table to take. `label` None: the last column. `text`: only this column goes in."""

    label: str | None = None
    text: str | None = None
    examples: int | None = None
    """None: 200, or half of a table that has fewer than 400 rows, but at least 20."""
    seed: int = 0


EXAMPLES: Final = 200


def prepare(source: table.Table, choice: Choice) -> Labelled:
    """The rows of *source* as *choice* says. Failure when nothing can be learned from them."""
    label = len(source.columns) - 1 if choice.label is None else source.column(choice.label)
    label_name = source.columns[label]
    inputs = _inputs(source, label, choice.text)
    kept = _with_answer(source, label)
    left_out = len(source.rows) - len(kept)
    count = _count(source, label_name, len(kept), choice.examples)
    answers, output_schema = _answers(source, [row[label].strip() for row in kept], label_name)
    columns = _columns(source, kept, inputs, as_text=choice.text is not None)
    rows = [
        Row(input=_encode(row, columns), output=answer)
        for row, answer in zip(kept, answers, strict=True)
    ]
    random.Random(choice.seed).shuffle(rows)  # noqa: S311 (a fair split, not a secret)
    if len({row.output for row in rows[:count]}) == 1:
        raise failure.Failure(
            f"{source.name}: the {count} examples all have {label_name} {rows[0].output!r}; "
            "take more with --examples or others with --seed"
        )
    return Labelled(
        name=_slug(source.name),
        description=f"Predict {label_name} from {', '.join(source.columns[at] for at in inputs)}.",
        input_schema=_schema(columns),
        output_schema=output_schema,
        examples=tuple(rows[:count]),
        unseen=tuple(rows[count:]),
        notes=(f"{left_out} rows left out: they have no {label_name}",) if left_out else (),
    )


def examples(source: table.Table) -> tuple[messages.Example, ...]:
    """Every row of *source* as an example: the last column is the output, the others the input.

    Fields are called exactly as the columns: the caller has a schema that names them.
    """
    label = len(source.columns) - 1
    rows = _with_answer(source, label)
    if not rows:
        raise failure.Failure(f"{source.name}: no row has a value in {source.columns[label]!r}")
    inputs = _inputs(source, label, None)
    columns = [
        msgspec.structs.replace(column, field=source.columns[column.at])
        for column in _columns(source, rows, inputs, as_text=False)
    ]
    kind = _kind({row[label].strip() for row in rows})
    output = Column(at=label, field=source.columns[label], kind=kind, nullable=False)
    return tuple(
        messages.Example(
            input=_encode(row, columns),
            output=msgspec.Raw(msgspec.json.encode(_value(row[label], output))),
        )
        for row in rows
    )


def _inputs(source: table.Table, label: int, text: str | None) -> list[int]:
    inputs = [at for at in range(len(source.columns)) if at != label]
    if text is not None:
        inputs = [source.column(text)]
    if not inputs or inputs == [label]:
        raise failure.Failure(
            f"{source.name}: beside the label {source.columns[label]!r} there must be a column "
            "to predict it from"
        )
    return inputs


def _with_answer(source: table.Table, label: int) -> list[tuple[str, ...]]:
    """The rows that have a value in the column *label*."""
    rows = [row for row in source.rows if row[label].strip()]
    present = [row for row in rows if row[label].strip().lower() not in MISSING]
    # Among texts "none" and "?" may be meant; among numbers and truth values they cannot.
    is_text = _kind({row[label].strip() for row in present}) == "string"
    return rows if is_text else present


def _count(source: table.Table, label: str, rows: int, wanted: int | None) -> int:
    """How many rows become examples; at least one stays unseen."""
    if rows < ROWS_MIN:
        raise failure.Failure(
            f"{source.name} has {rows} rows with a value in {label!r}, the label; {ROWS_MIN} are "
            "the least"
        )
    count = min(EXAMPLES, max(rows // 2, EXAMPLES_MIN)) if wanted is None else wanted
    if count < EXAMPLES_MIN:
        raise failure.Failure(
            f"{source.name}: a program needs at least {EXAMPLES_MIN} examples, half of them to "
            f"prove it on; --examples {count} is too few"
        )
    if count >= rows:
        raise failure.Failure(
            f"{source.name} has {rows} labelled rows; --examples {count} leaves none to try the "
            "program on"
        )
    return count


def _answers(
    source: table.Table, cells: list[str], label: str
) -> tuple[list[Value], dict[str, Any]]:
    """The labels as JSON values, with their schema: classes, or a number to estimate."""
    kind = _kind(set(cells))
    numbers = {float(cell) for cell in cells} if kind in {"integer", "number"} else set()
    # Other programs write whole numbers as 1.0 as soon as the column has a gap.
    whole = all(number.is_integer() and abs(number) <= INTEGER_MAX for number in numbers)
    if kind == "boolean" and len(set(cells)) > len({cell.lower() for cell in cells}):
        cells = [cell.lower() for cell in cells]
    distinct = len(numbers or set(cells))
    if distinct == 1:
        raise failure.Failure(
            f"{source.name}: every row has {label} {cells[0]!r}, so there is nothing to predict"
        )
    if numbers and whole and len(numbers) <= INTEGER_CLASSES_MAX:
        return [int(float(cell)) for cell in cells], {
            "type": "integer",
            "enum": sorted(map(int, numbers)),
        }
    if numbers:
        return [float(cell) for cell in cells], {"type": "number"}
    if distinct > len(cells) // 2:
        raise failure.Failure(
            f"{source.name}: {label} has {distinct} different values in {len(cells)} rows, so "
            "it is no label; choose a column with --label"
        )
    return list(cells), {"type": "string", "enum": sorted(set(cells))}


def _columns(
    source: table.Table, rows: list[tuple[str, ...]], inputs: list[int], *, as_text: bool
) -> list[Column]:
    columns: list[Column] = []
    taken: Counter[str] = Counter()
    for at in inputs:
        cells = {row[at].strip() for row in rows}
        present = {cell for cell in cells if cell.lower() not in MISSING}
        kind: Kind = "string" if as_text else _kind(present)
        # In text only an empty cell is a missing one: "none" and "?" may be meant.
        nullable = (not as_text and "" in cells) if kind == "string" else present != cells
        name = snake_case(source.columns[at]) or f"column_{at + 1}"
        taken[name] += 1
        field = name if taken[name] == 1 else f"{name}_{taken[name]}"
        columns.append(Column(at=at, field=field, kind=kind, nullable=nullable))
    return columns


def _kind(cells: set[str]) -> Kind:
    """The narrowest type that holds every one of *cells*."""
    if not cells:
        return "string"
    if all(_INTEGER.fullmatch(cell) and abs(int(cell)) <= INTEGER_MAX for cell in cells):
        return "integer"
    if all(_is_finite(cell) for cell in cells):
        return "number"
    if {cell.lower() for cell in cells} <= {"true", "false"}:
        return "boolean"
    return "string"


def _is_finite(cell: str) -> bool:
    # What float() takes too, but is text: codes such as 007, digit groups such as 1_000, and
    # whole numbers that a float would not keep exactly.
    if "_" in cell or re.match(r"[+-]?(0[0-9]|[0-9]{16,}$)", cell):
        return False
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _encode(row: tuple[str, ...], columns: list[Column]) -> msgspec.Raw:
    return msgspec.Raw(
        msgspec.json.encode({column.field: _value(row[column.at], column) for column in columns})
    )


def _value(cell: str, column: Column) -> Value:
    bare = cell.strip()
    if column.kind == "string":
        return None if column.nullable and not bare else cell
    if column.nullable and bare.lower() in MISSING:
        return None
    if column.kind == "integer":
        return int(bare)
    return float(bare) if column.kind == "number" else bare.lower() == "true"


def _schema(columns: list[Column]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            column.field: {"type": [column.kind, "null"] if column.nullable else column.kind}
            for column in columns
        },
        "required": [column.field for column in columns],
        "additionalProperties": False,
    }


def snake_case(name: str) -> str:
    """`Mean Radius (mm)` and `meanRadiusMm` → `mean_radius_mm`; empty when nothing is left."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"\W+|_+", "_", apart.lower()).strip("_")


def _slug(name: str) -> str:
    """A name for the task: the file's, in the letters that names of tasks have."""
    stem = name.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:60] or "demo"
