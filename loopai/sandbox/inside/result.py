"""From a program's value or exception to bytes: only `describe` runs code of the program."""

import json.encoder
import math
from collections.abc import Iterator

DEPTH_MAX = 64
INTEGER_MAX = 2**53
PROGRAM_FILE = "program.py"
LINE_MAX = 2**31

# The C encoder that `json` itself makes for each call; the values it gets are plain already.
_quote = json.encoder.encode_basestring


class InvalidError(Exception):
    """The value is not JSON of the agreed domain."""


class TooLargeError(Exception):
    """The encoded value exceeds its limit."""


def _unreachable(value: object) -> object:
    raise InvalidError(f"a {type(value).__name__} is not JSON")


_encode = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # private to json, stable since 3.1
    None, _unreachable, _quote, None, ":", ",", False, False, False
)


def encode(value: object, bytes_max: int) -> bytes:
    """Return *value* as JSON on one line, in UTF-8."""
    kind = type(value)
    if kind is str:
        # Before quoting, which may take six times the memory.
        if len(value) > bytes_max:  # type: ignore[arg-type]  # kind says so
            raise TooLargeError("value too large")
        text = _quote(value)  # type: ignore[arg-type]  # kind says so
    elif value is True:
        text = "true"
    elif value is False:
        text = "false"
    elif value is None:
        text = "null"
    elif kind is int and -INTEGER_MAX <= value <= INTEGER_MAX:  # type: ignore[operator]  # kind says so
        text = int.__repr__(value)
    elif _left(value, bytes_max, 0) >= 0:
        text = "".join(_encode(value, 0))
    else:
        plain = _Copy(bytes_max).copy(value, "", 0)
        text = "".join(_encode(plain, 0))
    try:
        data: bytes = text.encode()
    except UnicodeEncodeError:
        raise InvalidError("text has a lone surrogate") from None
    if len(data) > bytes_max:
        raise TooLargeError(f"{len(data)} bytes")
    return data


def _left(value: object, left: int, depth: int) -> int:  # noqa: C901, PLR0911 (one branch a type)
    """Return what is left of *left* bytes by a lower bound of the encoded size, or less than 0.

    Only of what needs no copy: exactly of the plain types, so that encoding it runs no code of the
    program. The rest, and what is not allowed, is for _Copy to change or to name.
    """
    left -= 1
    kind = type(value)
    if kind is str:
        return left - len(value)  # type: ignore[arg-type]  # kind says so
    if kind is int:
        return left if -INTEGER_MAX <= value <= INTEGER_MAX else -1  # type: ignore[operator]
    if kind is float:
        return left if math.isfinite(value) else -1  # type: ignore[arg-type]
    if value is None or kind is bool:
        return left
    if depth < DEPTH_MAX:
        depth += 1
        if kind is list or kind is tuple:
            for child in value:  # type: ignore[attr-defined]
                left = _left(child, left, depth)
                if left < 0:
                    return -1
            return left
        if kind is dict:
            for key, child in value.items():  # type: ignore[attr-defined]
                if type(key) is not str:
                    return -1
                left = _left(child, left - len(key), depth)
                if left < 0:
                    return -1
            return left
    return -1


class _Copy:
    """Copies a value to plain lists and dicts and stops at the first thing that is not allowed.

    Subclasses (Counter, OrderedDict, IntEnum, namedtuple) become their base type through its own
    methods. `left` bounds the work: a lower bound of the encoded size is taken off as we go, so a
    value that refers to itself many times over ends early.
    """

    def __init__(self, bytes_max: int) -> None:
        self.left = bytes_max

    def copy(self, value: object, path: str, depth: int) -> object:  # noqa: C901 (one branch a type)
        self.left -= 1
        kind = type(value)
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if value is None or kind is bool:
            return value
        if issubclass(kind, int):
            number = int.__int__(value)  # type: ignore[arg-type]  # kind says so
            if not -INTEGER_MAX <= number <= INTEGER_MAX:
                raise InvalidError(f"{path or '/'}: integer beyond 2**53")
            return number
        if issubclass(kind, float):
            real = float.__float__(value)  # type: ignore[arg-type]  # kind says so
            if not math.isfinite(real):
                raise InvalidError(f"{path or '/'}: number is not finite")
            return real
        if depth >= DEPTH_MAX:
            raise InvalidError(f"{path[:200]}: nested deeper than {DEPTH_MAX}")
        if self.left < 0:
            raise TooLargeError("value too large")
        if issubclass(kind, dict):
            return self._members(value, path, depth)  # type: ignore[arg-type]  # kind says so
        if issubclass(kind, list):
            children: Iterator[object] = list.__iter__(value)  # type: ignore[arg-type]  # kind says so
        elif issubclass(kind, tuple):
            children = tuple.__iter__(value)  # type: ignore[arg-type]  # kind says so
        else:
            raise InvalidError(f"{path or '/'}: a {kind.__name__} is not JSON")
        return [
            self.copy(child, f"{path}/{index}", depth + 1) for index, child in enumerate(children)
        ]

    def _members(self, value: dict[object, object], path: str, depth: int) -> dict[str, object]:
        members = {}
        for key, child in dict.items(value):
            if not issubclass(type(key), str):
                raise InvalidError(f"{path or '/'}: a key is not a string but {type(key).__name__}")
            name = self._text(str.__str__(key))
            members[name] = self.copy(child, f"{path}/{name[:100]}", depth + 1)
        return members

    def _text(self, text: str) -> str:
        self.left -= len(text)
        if self.left < 0:
            raise TooLargeError("value too large")
        return text


def _frames(error: BaseException) -> Iterator[tuple[int, str]]:
    """Line and function of every frame of the program in the traceback of *error*."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == PROGRAM_FILE:
            yield trace.tb_lineno, code.co_name
        trace = trace.tb_next


def line_of(error: BaseException) -> int | None:
    """Return the innermost line of the program that *error* comes from."""
    if isinstance(error, SyntaxError) and error.filename == PROGRAM_FILE:
        line = error.lineno
        return line if type(line) is int and 0 < line < LINE_MAX else None
    line = None
    for line, _ in _frames(error):  # noqa: B007 (the last one is wanted)
        pass
    return line


def name_of(error: BaseException) -> str:
    """Return the name of the class of *error*, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def message_of(error: BaseException) -> str:
    """Return what *error* says. `__str__` of it may do anything."""
    if isinstance(error, SyntaxError) and error.filename == PROGRAM_FILE:
        return str(error.msg)
    return str(error)


def traceback_of(error: BaseException, text: str, last: str, length_max: int) -> str:
    """Return the program's frames as Python shows them, and *last*; empty where it has none.

    The innermost ones, as far as *length_max* characters go.
    """
    source = text.splitlines()
    shown: list[str] = []
    frames = list(_frames(error))
    left = length_max - len(last) - 80  # for the first line, and how many are not shown
    for at, name in reversed(frames):
        entry = f'  File "{PROGRAM_FILE}", line {at}, in {name[:100]}'
        if 0 < at <= len(source):
            entry += f"\n    {source[at - 1].strip()[:100]}"
        left -= len(entry) + 1
        if left < 0:
            shown.append(f"  ({len(frames) - len(shown)} more)")
            break
        shown.append(entry)
    if not shown:
        return ""
    return "\n".join(["Traceback (most recent call last):", *reversed(shown), last])
