"""The program's text: a docstring, the fitted numbers as literals, a few small functions."""

import ast
import functools
import math
import textwrap
from collections.abc import Sequence
from importlib import resources
from typing import Final

import msgspec

from loopai.synthesis.examples import features, goal, inputs, literals, models

DESCRIPTION_CHARACTERS_MAX: Final = 500
CLASSES_TOLD_MAX: Final = 10


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What the docstring tells."""

    task: str
    description: str
    model: str
    seen: int
    tried: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the program: imports to put at the top, tables, and functions."""

    imports: tuple[str, ...] = ()
    constants: str = ""
    functions: str = ""


def write(heading: Heading, wanted: goal.Goal, model: models.Linear | models.Trees) -> str:
    """The whole program. Equal arguments give equal text."""
    parts = _linear_parts(model) if isinstance(model, models.Linear) else _tree_parts(model)
    parts.append(_answer_part(model, wanted))
    imports = sorted({line for part in parts for line in part.imports})
    head = [_docstring(heading, wanted), "\n".join(imports)]
    head += [part.constants.strip("\n") for part in parts if part.constants]
    sections = ["\n\n".join(text for text in head if text)]
    sections += [part.functions for part in parts if part.functions]
    return "\n\n\n".join(section.strip("\n") for section in sections if section) + "\n"


@functools.cache
def source(name: str) -> Part:
    """A module of `parts/`, without its docstring and the imports of its neighbours."""
    text = resources.files(__package__).joinpath("parts", f"{name}.py").read_text("utf-8")
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, ast.Import)]
    first = next(
        node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)
    )
    lines = text.splitlines()[first.lineno - 1 :]
    clean = [line.partition("  # noqa")[0] for line in lines]
    return Part(imports=tuple(ast.unparse(node) for node in imports), functions="\n".join(clean))


def _docstring(heading: Heading, wanted: goal.Goal) -> str:
    if wanted.kind == "number":
        answers = f"a number, counted as right within {wanted.tolerance:g}"
    else:
        told = [goal.key(value) for value in wanted.classes[:CLASSES_TOLD_MAX]]
        more = len(wanted.classes) - len(told)
        answers = "one of " + ", ".join(told) + (f" and {more} more" if more else "")
    lines = [f"Task: {heading.task}", ""]
    if heading.description:
        lines += [heading.description[:DESCRIPTION_CHARACTERS_MAX], ""]
    fitted = (
        f"Model: {heading.model}, chosen among {heading.tried} by cross-validation and fitted by "
        f"Loopai to {heading.seen} labelled examples. It needs nothing but Python."
    )
    lines += [f"Answers with {answers}.", *textwrap.wrap(fitted, 96)]
    return literals.docstring("\n".join(lines))


# --- linear ------------------------------------------------------------------------------------


def _linear_parts(model: models.Linear) -> list[Part]:
    flat = _is_flat(model.terms, model.table)
    parts = [Part(constants=f"BIAS = {_tuple_exact(model.bias)}"), _read_part(flat=flat)]
    offset, scale = 0, 1.0
    calls = []
    if model.terms is not None:
        parts += _text_parts(model.terms, model, flat=flat)
        offset = len(model.terms.terms) + len(model.terms.traits)
        scale = features.NUMBER_SCALE
        calls.append("text_scores(input)")
    if model.table is not None:
        parts.append(_table_part(model.table, model, offset, scale, flat=flat))
        calls.append("table_scores(input)")
    total = ", ".join(calls)
    parts.append(
        Part(
            functions=f"""
def scores(input):
    return [sum(parts) for parts in zip(BIAS, {total})]
"""
        )
    )
    return parts


def _text_parts(terms: features.Terms, model: models.Linear, *, flat: bool) -> list[Part]:
    """Tables of terms, each with its rarity squared and its pulls; the strongest stand first."""
    tables: dict[str, list[tuple[float, str]]] = {"WORDS": [], "PIECES": []}
    for index, (term, rarity) in enumerate(zip(terms.terms, terms.rarity, strict=True)):
        pulls = [float(row[index]) * rarity for row in model.weights]
        table = "PIECES" if term.startswith("\t") else "WORDS"
        entry = f"    {literals.value(term.lstrip(chr(9)))}: "
        entry += literals.numbers([rarity * rarity, *pulls]) + ",\n"
        tables[table].append((-max(map(abs, pulls)), entry))
    start = len(terms.terms)
    told = [
        (name, [float(row[start + index]) * features.TRAIT_SCALE for row in model.weights])
        for index, name in enumerate(terms.traits)
    ]
    constants = "# term: (its rarity squared, its pull on each score)\n"
    constants += _table("WORDS", tables["WORDS"])
    found = "[WORDS[word] for word in words(text) if word in WORDS]"
    parts = [source("words")]
    if terms.texts == "pieces":
        constants += _table("PIECES", tables["PIECES"])
        found += "\n    found += [PIECES[piece] for piece in pieces(text) if piece in PIECES]"
        parts.append(source("pieces"))
    constants += "# trait of the whole text: its pull on each score\nTRAITS = {\n"
    constants += "".join(f"    {name!r}: {literals.numbers(pulls)},\n" for name, pulls in told)
    constants += "}\n"
    constants += f"TEXTS = {_paths(terms.paths, flat=flat)}\n"
    functions = f"""
def text_scores(input):
    values = [read(input, field) for field in TEXTS]
    text = "\\n".join([value if isinstance(value, str) else "" for value in values])
    found = {found}
    length = math.sqrt(sum([entry[0] for entry in found])) or 1.0
    held = [TRAITS[trait] for trait in traits(text) if trait in TRAITS]
    return [
        sum([entry[score + 1] for entry in found]) / length
        + sum([pulls[score] for pulls in held])
        for score in range(len(BIAS))
    ]
"""
    text = Part(imports=("import math",), constants=constants, functions=functions)
    return [*parts, source("traits"), text]


def _table(name: str, entries: list[tuple[float, str]]) -> str:
    return f"{name} = {{\n" + "".join(entry for _, entry in sorted(entries)) + "}\n"


def _table_part(
    table: features.Table, model: models.Linear, offset: int, scale: float, *, flat: bool
) -> Part:
    """Numbers with what standardises them, and categories, each with their pulls."""
    column = offset

    def pulls(place: int) -> list[float]:
        return [float(row[place]) * scale for row in model.weights]

    constants, loops = "", ""
    if table.numbers:
        constants += "# field: (value where it is missing, mean, spread, pull on each score)\n"
        constants += "NUMBERS = {\n"
        for number in table.numbers:
            stats = ", ".join(map(literals.exact, (number.missing, number.mean, number.spread)))
            weights = ", ".join(map(literals.number, pulls(column)))
            constants += f"    {_path(number.path, flat=flat)}: ({stats}, {weights}),\n"
            column += 1
        constants += f"}}\nCLIP = {features.CLIP}\n"
        loops += """
    for field, (missing, mean, spread, *pulls) in NUMBERS.items():
        scaled = (number(read(input, field), missing) - mean) / spread
        scaled = max(-CLIP, min(CLIP, scaled))
        for score, pull in enumerate(pulls):
            totals[score] += pull * scaled"""
    if table.categories:
        constants += "# field: category: pull on each score\nCATEGORIES = {\n"
        for category in table.categories:
            constants += f"    {_path(category.path, flat=flat)}: {{\n"
            for name in category.categories:
                weights = literals.numbers(pulls(column))
                constants += f"        {literals.value(name)}: {weights},\n"
                column += 1
            constants += "    },\n"
        constants += "}\n"
        loops += """
    for field, known in CATEGORIES.items():
        for score, pull in enumerate(known.get(str(read(input, field)), ())):
            totals[score] += pull"""
    functions = f"""
def table_scores(input):
    totals = [0.0] * len(BIAS){loops}
    return totals
"""
    if table.numbers:
        functions = _NUMBER + "\n" + functions
    return Part(constants=constants, functions=functions)


# --- trees -------------------------------------------------------------------------------------


def _tree_parts(model: models.Trees) -> list[Part]:
    table = model.table
    flat = _is_flat(None, table)
    constants, reads = "", ["    row = []"]
    if table.numbers:
        constants += "# field: value where it is missing\nNUMBERS = {\n"
        constants += "".join(
            f"    {_path(n.path, flat=flat)}: {literals.exact(n.missing)},\n" for n in table.numbers
        )
        constants += "}\n"
        reads.append("    for field, missing in NUMBERS.items():")
        reads.append("        row.append(number(read(input, field), missing))")
    if table.categories:
        constants += "# field: its categories, each a column of 0 or 1\nCATEGORIES = {\n"
        constants += "".join(
            f"    {_path(c.path, flat=flat)}: {literals.value(c.categories)},\n"
            for c in table.categories
        )
        constants += "}\n"
        reads.append("    for field, known in CATEGORIES.items():")
        reads.append("        value = str(read(input, field))")
        reads.append("        row += [float(value == category) for category in known]")
    row = "def row_of(input):\n" + "\n".join(reads) + "\n    return row\n"
    row = (_NUMBER + "\n\n" + row) if table.numbers else row
    names = _columns(table)
    functions = [row]
    for index, tree in enumerate(model.trees, start=1):
        lines = [f"def tree_{index}(row):", *_branches(tree, names, len(model.bias), 1)]
        functions.append("\n".join(lines) + "\n")
    listed = "".join(f"    tree_{index},\n" for index in range(1, len(model.trees) + 1))
    functions.append(f"TREES = (\n{listed})\n")
    if len(model.bias) == 1:
        total = "    return [BIAS[0] + sum([tree(row) for tree in TREES])]\n"
    else:
        total = "    said = [tree(row) for tree in TREES]\n"
        total += "    return [sum(column) for column in zip(BIAS, *said)]\n"
    functions.append(f"def scores(input):\n    row = row_of(input)\n{total}")
    return [
        Part(constants=f"BIAS = {_tuple_exact(model.bias)}\n{constants}"),
        _read_part(flat=flat),
        Part(functions="\n\n".join(functions)),
    ]


def _branches(
    node: models.Branch | models.Leaf, names: Sequence[str], scores: int, depth: int
) -> list[str]:
    indent = "    " * depth
    if isinstance(node, models.Leaf):
        said = literals.numbers(node.scores) if scores > 1 else literals.number(node.scores[0])
        return [f"{indent}return {said}"]
    threshold = literals.exact(node.threshold)
    return [
        f"{indent}if row[{node.column}] <= {threshold}:  # {literals.comment(names[node.column])}",
        *_branches(node.low, names, scores, depth + 1),
        *_branches(node.high, names, scores, depth),
    ]


def _columns(table: features.Table) -> list[str]:
    names = [inputs.name(number.path) for number in table.numbers]
    for category in table.categories:
        names += [f"{inputs.name(category.path)} = {value}" for value in category.categories]
    return names


# --- shared ------------------------------------------------------------------------------------

_NUMBER = """def number(value, missing):
    return float(value) if isinstance(value, (int, float)) else missing
"""

_READ_FLAT = """def read(input, field):
    return input.get(field)
"""

_READ_NESTED = """def read(input, path):
    value = input
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
"""


def _read_part(*, flat: bool) -> Part:
    return Part(functions=_READ_FLAT if flat else _READ_NESTED)


def _is_flat(terms: features.Terms | None, table: features.Table | None) -> bool:
    """Whether every field is a key of the input itself."""
    paths = list(terms.paths) if terms is not None else []
    if table is not None:
        paths += [number.path for number in table.numbers]
        paths += [category.path for category in table.categories]
    return all(len(path) == 1 and isinstance(path[0], str) for path in paths)


def _path(path: inputs.Path, *, flat: bool) -> str:
    return literals.value(path[0] if flat else path)


def _paths(paths: Sequence[inputs.Path], *, flat: bool) -> str:
    return "[" + ", ".join(_path(path, flat=flat) for path in paths) + "]"


def _tuple_exact(values: Sequence[float]) -> str:
    return literals.value(tuple(float(f"{value:.9g}") for value in values))


def _answer_part(model: models.Linear | models.Trees, wanted: goal.Goal) -> Part:
    """`run`: from scores to the answer."""
    if wanted.kind == "number":
        return _number_part(wanted)
    classes = "".join(f"    {literals.value(value)},\n" for value in wanted.classes)
    constants = f"CLASSES = (\n{classes})"
    if len(model.bias) == 1:
        constants = f"# a score above 0 stands for the second of them\n{constants}"
        answer = "    return CLASSES[scores(input)[0] > 0]"
    else:
        answer = "    totals = scores(input)\n    return CLASSES[totals.index(max(totals))]"
    return Part(constants=constants, functions=f"def run(input):\n{answer}\n")


def _number_part(wanted: goal.Goal) -> Part:
    """Answers stay near the outputs seen, and inside the schema's bounds, whatever comes in."""
    low, high = min(wanted.targets), max(wanted.targets)
    margin = (high - low) / 2
    # What never was negative, such as a price or a count, stays so.
    low = max(0.0, low - margin) if low >= 0 else low - margin
    high += margin
    if wanted.lowest is not None:
        low = max(low, wanted.lowest)
    if wanted.highest is not None:
        high = min(high, wanted.highest)
    digits = "" if wanted.whole else ", DECIMALS"
    constants = f"LOWEST = {literals.exact(low)}\nHIGHEST = {literals.exact(high)}"
    if not wanted.whole:
        # A ten-thousandth of the tolerance: more digits would only look exact.
        decimals = max(0, 4 - math.floor(math.log10(wanted.tolerance or 1.0)))
        constants += f"\nDECIMALS = {decimals}"
    functions = f"""
def run(input):
    return round(max(LOWEST, min(HIGHEST, scores(input)[0])){digits})
"""
    return Part(constants=constants, functions=functions)
