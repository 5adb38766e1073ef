"""What is to be predicted: one of several values, or a number."""

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from loopai.synthesis import engine

CLASSES_MAX: Final = 200
EXAMPLES_PER_CLASS_MIN: Final = 2
WHOLE_CLASSES_MAX: Final = 20
"""More different whole numbers than this are taken for a quantity rather than for classes."""
TOLERANCE_SHARE: Final = 0.1
BINS: Final = 5
NUMBER_MAX: Final = 1e30
"""Squares of larger numbers leave the range of floats."""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["classes", "number"]
    classes: tuple[Any, ...] = ()  # Any: JSON values of the examples' outputs
    """The values, in order of their JSON; the program answers with one of them."""
    targets: tuple[float, ...]
    """For each example the index of its class, or the number."""
    strata: tuple[int, ...]
    """For each example the class, or the fifth of the range: a fair split keeps their shares."""
    tolerance: float | None = None
    whole: bool = False
    """Numbers are answered as integers."""
    lowest: float | None = None
    highest: float | None = None


def read(outputs: Sequence[object], schema: dict[str, Any]) -> Goal:  # Any: JSON Schema
    """Decide by the output schema and the outputs seen. Raises CannotGenerate."""
    if all(_is_number(output) for output in outputs) and _is_quantity(outputs, schema):
        return _number([float(output) for output in outputs], schema, outputs)  # type: ignore[arg-type]  # all are numbers here
    return _classes(outputs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_quantity(outputs: Sequence[Any], schema: dict[str, Any]) -> bool:  # Any: JSON numbers
    if "enum" in schema or "const" in schema:
        return False
    different = len(set(outputs))
    if different <= 2:  # noqa: PLR2004 (yes or no, written as numbers)
        return False
    if schema.get("type") == "number" or any(output % 1 for output in outputs):
        return True
    return different > min(WHOLE_CLASSES_MAX, len(outputs) / 5)


def _number(
    outputs: list[float], schema: dict[str, Any], originals: Sequence[object]
) -> Goal:  # Any: JSON Schema
    ordered = sorted(outputs)
    if max(-ordered[0], ordered[-1]) > NUMBER_MAX:
        raise engine.CannotGenerate(
            "INVALID_REQUEST", f"numbers larger than {NUMBER_MAX:g} cannot be learned as outputs"
        )
    cuts = statistics.quantiles(ordered, n=20, method="inclusive")
    spread = (cuts[-1] - cuts[0]) or (ordered[-1] - ordered[0])
    rank = {value: index for index, value in reversed(list(enumerate(ordered)))}
    return Goal(
        kind="number",
        targets=tuple(outputs),
        strata=tuple(rank[value] * BINS // len(ordered) for value in outputs),
        tolerance=float(f"{TOLERANCE_SHARE * spread:.3g}"),
        whole=schema.get("type") == "integer" or all(isinstance(o, int) for o in originals),
        lowest=_bound(schema, "minimum"),
        highest=_bound(schema, "maximum"),
    )


def _bound(schema: dict[str, Any], name: str) -> float | None:  # Any: JSON Schema
    bound = schema.get(name)
    if isinstance(bound, int | float) and not isinstance(bound, bool):
        return float(bound)
    return None


def _classes(outputs: Sequence[object]) -> Goal:
    keys = [key(output) for output in outputs]
    values: dict[str, object] = {}
    for name, output in zip(keys, outputs, strict=True):
        values.setdefault(name, output)
    counts = Counter(keys)
    if len(counts) == 1:
        raise engine.CannotGenerate(
            "INVALID_REQUEST",
            f"all {len(keys)} examples have the output {_cut(keys[0])}: "
            "there is nothing to tell apart; add examples of other outputs",
        )
    if len(counts) > CLASSES_MAX or 2 * len(counts) > len(keys):
        raise engine.CannotGenerate(
            "INVALID_REQUEST",
            f"the {len(keys)} examples have {len(counts)} different outputs; the examples engine "
            f"learns to choose among at most {CLASSES_MAX} outputs, from two or more examples of "
            "each on average, or to estimate a number; it does not write free text",
        )
    order = sorted(counts)
    index = {name: position for position, name in enumerate(order)}
    places = tuple(index[name] for name in keys)
    return Goal(
        kind="classes",
        classes=tuple(values[name] for name in order),
        targets=tuple(float(place) for place in places),
        strata=places,
    )


def only(goal: Goal, kept: Sequence[int]) -> Goal:
    """The goal as those who see only the examples at *kept* know it."""
    targets = [goal.targets[index] for index in kept]
    strata = tuple(goal.strata[index] for index in kept)
    if goal.kind == "number":
        return msgspec.structs.replace(goal, targets=tuple(targets), strata=strata)
    present = sorted(set(strata))
    place = {stratum: index for index, stratum in enumerate(present)}
    places = tuple(place[stratum] for stratum in strata)
    return msgspec.structs.replace(
        goal,
        classes=tuple(goal.classes[stratum] for stratum in present),
        targets=tuple(float(index) for index in places),
        strata=places,
    )


def short(value: object) -> str:
    """The value's JSON for a message."""
    return _cut(key(value))


def key(value: object) -> str:
    """Canonical JSON: equal for values that are equal as JSON, 1 and 1.0 included."""
    return msgspec.json.encode(_plain(value), order="sorted").decode()


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"  # noqa: PLR2004 (fits a line)
