"""Whether a program's output is the right one: structural equality of JSON values."""

import math


def matches(expected: object, actual: object, tolerance: float | None) -> bool:
    """Compare decoded JSON values: 1 equals 1.0, True does not equal 1, objects ignore key order.

    Where *tolerance* is given, numbers at any depth may differ by that much, ends included.
    """
    # A stack rather than recursion: outputs come from programs and may be nested deeply.
    pending = [(expected, actual)]
    while pending:
        left, right = pending.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            pending.extend((left[key], right[key]) for key in left)
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            if len(left) != len(right):
                return False
            pending.extend(zip(left, right, strict=True))
        elif not _same_scalar(left, right, tolerance):
            return False
    return True


def _same_scalar(left: object, right: object, tolerance: float | None) -> bool:
    if _is_number(left) and _is_number(right):
        return _same_number(left, right, tolerance)  # type: ignore[arg-type]  # both are numbers here
    return type(left) is type(right) and left == right


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_number(left: float, right: float, tolerance: float | None) -> bool:
    if left == right:
        return True
    if tolerance is None:
        return False
    try:
        difference = abs(left - right)
    except OverflowError:  # an int too large for a float
        return False
    # The slack keeps 0.3 - 0.2 within a tolerance of 0.1.
    return difference <= tolerance or math.isclose(difference, tolerance, rel_tol=1e-9)
