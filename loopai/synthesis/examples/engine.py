"""Fits models to labelled examples and writes the best one down as a program."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from loopai.synthesis import candidate as proposals
from loopai.synthesis import engine
from loopai.synthesis.examples import goal, inputs, split
from streams import messages

NAME: Final = "examples"
EXAMPLES_MIN: Final = 20
"""Different inputs: half to learn from and half to hold out is the least that says anything."""
CLASS_INPUTS_MIN: Final = 2
DEPTH_MAX: Final = 64
"""The value domain of programs ends there, and so does what Python can parse without trouble."""
CODE_BYTES_MAX: Final = 512 * 1024
FITTED_MAX: Final = 20_000
"""More examples than this add time, not accuracy, to models of this size."""


def candidates(task: messages.TaskSpecification, seed: int) -> list[proposals.Candidate]:
    """One program for *task*, fitted to about 80 % of its examples; the others are held out.

    The model is chosen by cross-validation among the seen examples only, so the held-out score of
    the one candidate is an honest one. CPU bound: seconds. Equal (task, seed) give equal bytes.
    Raises CannotGenerate.
    """
    given = [_decode(example.input, "input", i) for i, example in enumerate(task.examples)]
    outputs = [_decode(example.output, "output", i) for i, example in enumerate(task.examples)]
    keys = [goal.key(value) for value in given]
    _check_count(keys)
    wanted = goal.read(outputs, _schema(task.output_schema))
    _check_classes(keys, wanted)
    seen, held = split.hold_out(keys, wanted.strata, seed)
    if len(seen) > FITTED_MAX:
        seen = sorted(random.Random(seed).sample(seen, FITTED_MAX))  # noqa: S311 (no secret)
    code, description = _fitted(
        task,
        [given[i] for i in seen],
        [keys[i] for i in seen],
        goal.only(wanted, seen),
        seed,
    )
    return [
        proposals.Candidate(
            code=code,
            engine=NAME,
            strategy="ml",
            description=description,
            seen=len(seen),
            held_out=tuple(task.examples[i] for i in held),
            tolerance=wanted.tolerance,
        )
    ]


def _fitted(
    task: messages.TaskSpecification,
    given: Sequence[object],
    keys: Sequence[str],
    wanted: goal.Goal,
    seed: int,
) -> tuple[str, str]:
    """The program and one line about its model."""
    # Imported here: scikit-learn takes a second to load, which only those who fit should pay.
    import threadpoolctl  # type: ignore[import-untyped]  # noqa: PLC0415 (it ships no types)

    from loopai.synthesis.examples import families, models, program  # noqa: PLC0415

    columns = inputs.columns(given)
    # One thread: sums in another order differ in their last bits, and so would the program.
    with threadpoolctl.threadpool_limits(1):
        views = families.views(columns)
        family, loss, tried = families.choose(views, wanted, keys, seed)
        model: models.Linear | models.Trees
        if family.form == "linear":
            model = models.linear(family, views, columns, wanted, seed)
        else:
            model = models.trees(family, views, wanted, seed)
    named = f"{family.name} over {_over(family.view, columns)}"
    heading = program.Heading(
        task=task.name, description=task.description, model=named, seen=len(keys), tried=tried
    )
    told = f"{1 - loss:.3f} right" if wanted.kind == "classes" else f"mean error {loss:.4g}"
    description = f"{named}; {told} in cross-validation, best of {tried} models"
    code = program.write(heading, wanted, model)
    size = len(code.encode())
    if size > CODE_BYTES_MAX:
        raise engine.CannotGenerate(
            "INVALID_REQUEST",
            f"the program would have {size} bytes, and {CODE_BYTES_MAX} are the limit: "
            "give the inputs fewer fields, or the outputs fewer different values",
        )
    return code, description


def _over(view: str, columns: Sequence[inputs.Column]) -> str:
    table = sum(column.kind != "text" for column in columns)
    fields = f"{table} field" + ("s" if table != 1 else "")
    if view == "table":
        return fields
    told = "words" if view == "words" else "words and pieces of words"
    return f"{told} and {fields}" if table else told


def _decode(json: msgspec.Raw, what: str, index: int) -> Any:  # Any: a JSON value
    try:
        value = msgspec.json.decode(json)
    except (msgspec.DecodeError, RecursionError) as error:
        raise engine.CannotGenerate(
            "INVALID_REQUEST", f"the {what} of example {index} cannot be read: {error}"
        ) from error
    if _is_deep(value):
        raise engine.CannotGenerate(
            "INVALID_REQUEST", f"the {what} of example {index} is nested more than {DEPTH_MAX} deep"
        )
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True


def _schema(json: msgspec.Raw) -> dict[str, Any]:  # Any: JSON Schema
    try:
        schema = msgspec.json.decode(json)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return schema if isinstance(schema, dict) else {}


def _check_count(keys: Sequence[str]) -> None:
    different = len(set(keys))
    if different < EXAMPLES_MIN:
        repeated = f", {different} of them with different inputs" if different < len(keys) else ""
        raise engine.CannotGenerate(
            "TOO_FEW_EXAMPLES",
            f"the task has {len(keys)} examples{repeated}; at least {EXAMPLES_MIN} with different "
            "inputs are needed, half of them to prove the program on; 200 are a good start",
        )


def _check_classes(keys: Sequence[str], wanted: goal.Goal) -> None:
    if wanted.kind == "number":
        return
    members: dict[int, set[str]] = defaultdict(set)
    for key, stratum in zip(keys, wanted.strata, strict=True):
        members[stratum].add(key)
    rare = [s for s in sorted(members) if len(members[s]) < CLASS_INPUTS_MIN]
    if rare:
        told = ", ".join(goal.short(wanted.classes[s]) for s in rare[:5])
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""  # noqa: PLR2004
        raise engine.CannotGenerate(
            "TOO_FEW_EXAMPLES",
            f"at least {CLASS_INPUTS_MIN} examples with different inputs are needed for every "
            f"output; too few have the output {told}{more}",
        )
