"""What a program finds around it: what it may import, where its output goes, how it is called."""

import builtins
import io
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopai.sandbox.inside import result


class LoadError(Exception):
    """The program is not one; what it raises itself keeps its own name."""


def load(text: str, allowed: frozenset[str]) -> Callable[[object], object]:
    """Run *text* as a module and return its entry point. Raises whatever it raises."""
    module = types.ModuleType("program")
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(allowed)}
    # dataclasses, enum and typing look a class's module up by name.
    sys.modules["program"] = module
    exec(compile(text, result.PROGRAM_FILE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 (what a cell is for)
    run = module.__dict__.get("run")
    if callable(run):
        return run  # type: ignore[no-any-return]  # the program's
    classify = module.__dict__.get("classify")
    if callable(classify):
        return _classifier(classify)
    raise LoadError("the program defines no function run(input)")


def _importer(allowed: frozenset[str]) -> Callable[..., Any]:
    real = builtins.__import__

    def import_module(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 (the name that CPython passes)
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        # C code of the standard library imports through the caller's builtins too (strptime wants
        # `time`); it passes a list, the import statement a tuple or None.
        if level == 0 and not isinstance(fromlist, list):
            inside = name in allowed or name.partition(".")[0] in allowed
            if not inside and not (
                fromlist and all(f"{name}.{part}" in allowed for part in fromlist)
            ):
                raise ImportError(f"module {name!r} is not available to programs", name=name)
        return real(name, globals, locals, fromlist or (), level)

    return import_module


def _classifier(classify: Callable[[str], object]) -> Callable[[object], object]:
    def run(value: object) -> object:
        if isinstance(value, dict):
            texts = [item for item in value.values() if isinstance(item, str)]
            if len(texts) == 1:
                return classify(texts[0])
        if isinstance(value, str):
            return classify(value)
        raise TypeError("classify(text) needs a text, or an object with one text field")

    return run


class Capture(io.TextIOBase):
    """stdout and stderr of the running call, cut at *size_max* bytes of UTF-8."""

    def __init__(self, size_max: int) -> None:
        self.parts: list[str] = []
        self._left = self._size_max = size_max

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._left > 0:
            data = text[: self._left].encode("utf-8", "replace")[: self._left]
            self._left -= len(data)
            self.parts.append(data.decode("utf-8", "ignore"))
        return len(text)

    def take(self) -> str:
        text = "".join(self.parts)
        self.parts = []
        self._left = self._size_max
        return text
