"""Python literals of values that come from users. Nothing else may enter a program's text."""

import math
from collections.abc import Iterable

SIGNIFICANT_DIGITS = 4
COMMENT_CHARACTERS_MAX = 60


def value(data: object) -> str:
    """A literal of any decoded JSON value; what cannot be printed stands escaped."""
    return repr(data)


def number(data: float) -> str:
    """A weight, rounded: 4 digits are far below what the examples can tell apart."""
    if not math.isfinite(data):
        raise ValueError(f"{data} has no literal")
    return repr(float(f"{data:.{SIGNIFICANT_DIGITS}g}") + 0.0)


def exact(data: float) -> str:
    if not math.isfinite(data):
        raise ValueError(f"{data} has no literal")
    return repr(float(data) + 0.0)


def numbers(data: Iterable[float]) -> str:
    """A tuple of weights."""
    parts = [number(item) for item in data]
    return f"({', '.join(parts)},)" if len(parts) == 1 else f"({', '.join(parts)})"


def docstring(text: str) -> str:
    """A docstring of *text*, which it cannot end however it is written."""
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    safe = "".join(
        character if character == "\n" or character.isprintable() else _escaped(character)
        for character in escaped
    )
    return f'"""{safe}\n"""'


def comment(data: object) -> str:
    """A value inside a comment: on one line, whatever it holds, and not too long."""
    text = repr(data)
    return text if len(text) <= COMMENT_CHARACTERS_MAX else text[:COMMENT_CHARACTERS_MAX] + "…"


def _escaped(character: str) -> str:
    return repr(character)[1:-1]
