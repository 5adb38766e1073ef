"""Tier 1: what can be said about a program without running it.

This keeps honest mistakes out early and says where they are. It is no security boundary: the
kernel around the cell is.
"""

import ast
import warnings
from collections.abc import Iterator
from typing import Final

from loopai.sandbox import modules
from streams import messages

CODE_BYTES_MAX: Final = 1024 * 1024
ENTRY_POINTS: Final = ("run", "classify")
"""In order of preference; `classify(text)` is accepted for inputs of one text field."""

_BRANCHES: Final = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.match_case,
)


class Refused(Exception):  # noqa: N818 (it is an expected outcome, not a fault)
    """The program may not run, for *reason*, found at *line* where there is one."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


def screen(code: str, language: messages.Language = "python") -> messages.ComplexityMetrics:
    """Measure *code*, or raise Refused. The latency stays 0.0: it takes a run to know it.

    Of another language than Python only the size is judged here: loading it in a cell tells more.
    """
    _check_text(code)
    if language != "python":
        return messages.ComplexityMetrics(lines_of_code=_lines_of_code(code, "//"))
    tree = _parse(code)
    _check_entry_point(tree)
    for node in ast.walk(tree):
        for name in _imported(node):
            _check_import(name, node)
    return messages.ComplexityMetrics(
        cyclomatic_complexity=1 + sum(_branches(node) for node in ast.walk(tree)),
        lines_of_code=_lines_of_code(code, "#"),
    )


def _check_text(code: str) -> None:
    try:
        size = len(code.encode())
    except UnicodeEncodeError as error:
        raise Refused("the program is not valid Unicode text") from error
    if size > CODE_BYTES_MAX:
        raise Refused(f"the program has {size} bytes; the limit is {CODE_BYTES_MAX}")


def _parse(code: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as "invalid escape sequence": not our program
            return ast.parse(code)
    except SyntaxError as error:
        raise Refused(f"it is not valid Python: {error.msg}", error.lineno) from error
    except (RecursionError, MemoryError) as error:
        raise Refused("it is nested too deeply") from error
    except ValueError as error:  # a null byte, an integer of too many digits
        raise Refused(f"it is not valid Python: {error}") from error


def _check_entry_point(tree: ast.Module) -> None:
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
    for name in ENTRY_POINTS:
        if name in found:
            _check_signature(name, found[name])
            return
    raise Refused("it does not define a function run(input) at the top level")


def _check_signature(name: str, node: ast.AST) -> None:
    line = getattr(node, "lineno", None)
    if not isinstance(node, ast.FunctionDef):
        raise Refused(f"{name} must be a plain function, written with def", line)
    if _yields(node):
        raise Refused(f"{name} must return its result, not yield it", line)
    arguments = node.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    required_keywords = sum(default is None for default in arguments.kw_defaults)
    if required != 1 or required_keywords:
        raise Refused(f"{name} must take one required argument, the input", line)


def _yields(function: ast.FunctionDef) -> bool:
    """Whether the function itself, not one defined inside it, is a generator."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise Refused("relative imports lead nowhere: a program is one file", node.lineno)
        module = node.module or ""
        if module in modules.ALLOWED:
            yield module
        else:  # `from urllib import parse` imports urllib.parse
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _check_import(name: str, node: ast.AST) -> None:
    if name in modules.ALLOWED:
        return
    allowed = ", ".join(sorted(modules.ALLOWED))
    raise Refused(
        f"imports {name}, which programs may not; allowed: {allowed}", getattr(node, "lineno", None)
    )


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, _BRANCHES))


def _lines_of_code(code: str, comment: str) -> int:
    """Lines that hold more than blanks or a comment to the end of the line."""
    lines = (line.strip() for line in code.splitlines())
    return sum(bool(line) and not line.startswith(comment) for line in lines)
