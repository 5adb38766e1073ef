"""The values that inputs and outputs may have: JSON that every language reads alike."""

import math
from typing import Final

DEPTH_MAX: Final = 64
INTEGER_MAX: Final = 2**53
"""Integers beyond it change silently in languages whose only number is a double."""


def check(value: object) -> str | None:
    """Say what is wrong with a decoded JSON *value* as `path: reason`, or None.

    Finite floats, |integer| ≤ 2**53, string keys, valid Unicode, depth ≤ 64. A path is a JSON
    Pointer.
    """
    # An explicit stack: the depth of a hostile value must not become the depth of our own.
    stack: list[tuple[object, str, int]] = [(value, "", 0)]
    while stack:
        item, path, depth = stack.pop()
        kind = type(item)
        if kind is str:
            reason = _text(item)  # type: ignore[arg-type]  # kind says so
        elif kind is bool or item is None:
            continue
        elif kind is int:
            reason = None if -INTEGER_MAX <= item <= INTEGER_MAX else "integer beyond 2**53"  # type: ignore[operator]
        elif kind is float:
            reason = None if math.isfinite(item) else "number is not finite"  # type: ignore[arg-type]
        elif isinstance(item, dict | list | tuple):
            reason = _children(item, path, depth, stack)
        else:
            reason = f"a {kind.__name__} is not JSON"
        if reason is not None:
            return f"{path or '/'}: {reason}"
    return None


def _children(
    item: dict[object, object] | list[object] | tuple[object, ...],
    path: str,
    depth: int,
    stack: list[tuple[object, str, int]],
) -> str | None:
    if depth >= DEPTH_MAX:
        return f"nested deeper than {DEPTH_MAX}"
    if not isinstance(item, dict):
        stack.extend((child, f"{path}/{index}", depth + 1) for index, child in enumerate(item))
        return None
    for key, child in item.items():
        if not isinstance(key, str):
            return f"key {key!r:.100} is not a string"
        reason = _text(key)
        if reason is not None:
            return f"key: {reason}"
        token = key[:100].replace("~", "~0").replace("/", "~1")
        stack.append((child, f"{path}/{token}", depth + 1))
    return None


def _text(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text has a lone surrogate"
    return None
