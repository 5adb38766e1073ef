"""Prints which files an interpreter needs to run init: run outside, with init's own arguments."""

import ctypes
import json
import os
import sys


class _Object(ctypes.Structure):
    """The head of struct dl_phdr_info (link.h)."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _loaded() -> list[str]:
    """Shared objects by the names that the loader found them under, the loader itself included."""
    names: list[str] = []

    def visit(entry: "ctypes._Pointer[_Object]", _size: int, _data: object) -> int:
        name = os.fsdecode(entry.contents.name or b"")
        if name.startswith("/"):
            names.append(name)
        return 0

    callback = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p
    )
    ctypes.CDLL(None).dl_iterate_phdr(callback(visit), None)
    return names


def main() -> None:
    from loopai.sandbox.inside import python  # noqa: PLC0415 (the path is set by the caller)

    python.preload(json.loads(sys.argv[1]))
    stdlib = os.path.dirname(os.__file__)  # noqa: PTH120 (init has no pathlib either)
    libraries = [name for name in _loaded() if not name.startswith(stdlib + "/")]
    print(json.dumps({"stdlib": stdlib, "libraries": libraries}))  # noqa: T201 (its answer)
