"""What the inputs consist of: texts, numbers and categories, found by looking at the examples."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from loopai.synthesis import engine

Path: TypeAlias = tuple[str | int, ...]
"""How to reach a scalar from the input: keys of objects, positions of arrays."""

COLUMNS_MAX: Final = 1_000
DEPTH_MAX: Final = 8
CATEGORIES_MAX: Final = 50
"""Values that a string field may have to be a category; with more it is read as text."""
CATEGORY_EXAMPLES_MIN: Final = 2


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One scalar of the inputs that varies between the examples."""

    path: Path
    kind: Literal["number", "category", "text"]
    values: tuple[Any, ...]  # Any: a JSON scalar for each example, None where it is missing
    categories: tuple[str, ...] = ()
    """For a category the values worth telling apart, as `category_key` writes them."""


def columns(inputs: Sequence[object]) -> tuple[Column, ...]:
    """The columns of *inputs*, in order of first appearance. Raises CannotGenerate."""
    rows = [_scalars(value) for value in inputs]
    paths = list(dict.fromkeys(path for row in rows for path in row))
    if len(paths) > COLUMNS_MAX:
        raise engine.CannotGenerate(
            "INVALID_REQUEST",
            f"the inputs have {len(paths)} fields; the examples engine takes at most {COLUMNS_MAX}",
        )
    # The only string there is must be read as text: a table of its values would not generalise.
    alone = len(paths) == 1
    found = [_column(path, tuple(row.get(path) for row in rows), alone=alone) for path in paths]
    kept = tuple(column for column in found if column is not None)
    if not kept:
        raise engine.CannotGenerate(
            "INVALID_REQUEST",
            "the inputs of the examples do not differ in any field that can be learned from",
        )
    return kept


def name(path: Path) -> str:
    """The column for people: `pixels[3]`, `address.city`."""
    if not path:
        return "input"
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return steps.removeprefix(".")


def category_key(value: object) -> str:
    """How a program names a category: `str(value)`, so null and absent are `None`."""
    return str(value)


def _scalars(value: object) -> dict[Path, object]:
    """Every scalar of *value* under its path."""
    found: dict[Path, object] = {}
    pending: list[tuple[Path, object]] = [((), value)]
    while pending:
        path, item = pending.pop()
        if len(path) > DEPTH_MAX or len(found) > COLUMNS_MAX:
            raise engine.CannotGenerate(
                "INVALID_REQUEST",
                f"the inputs are larger than the examples engine takes: {COLUMNS_MAX} fields, "
                f"nested at most {DEPTH_MAX} deep",
            )
        if isinstance(item, dict):
            pending.extend(((*path, key), item[key]) for key in reversed(item))
        elif isinstance(item, list):
            if not all(entry is None or isinstance(entry, int | float) for entry in item):
                raise engine.CannotGenerate(
                    "INVALID_REQUEST",
                    f"{name(path)} is an array of more than numbers; the examples engine takes "
                    "texts, numbers, booleans, categories and arrays of numbers",
                )
            pending.extend(((*path, place), item[place]) for place in reversed(range(len(item))))
        else:
            found[path] = item
    return found


def _column(path: Path, values: tuple[object, ...], *, alone: bool) -> Column | None:
    present = [value for value in values if value is not None]
    if all(isinstance(value, int | float) for value in present):
        if len(set(present)) < 2:  # noqa: PLR2004 (a constant tells nothing)
            return None
        return Column(path=path, kind="number", values=values)
    counts = Counter(category_key(value) for value in values)
    if all(isinstance(value, str) for value in present) and (alone or _is_text(counts, present)):
        return Column(path=path, kind="text", values=values)
    common = [key for key, count in counts.most_common() if count >= CATEGORY_EXAMPLES_MIN]
    common = sorted(common[:CATEGORIES_MAX])
    if not common or len(counts) == 1:
        return None
    return Column(path=path, kind="category", values=values, categories=tuple(common))


def _is_text(counts: Counter[str], present: Sequence[object]) -> bool:
    """Strings that repeat are categories; those that mostly differ are texts."""
    return len(counts) > CATEGORIES_MAX or 3 * len(counts) > 2 * len(present)
