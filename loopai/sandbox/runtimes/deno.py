"""Programs in JavaScript and TypeScript, by Deno."""

import asyncio
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Final

import msgspec

from loopai.sandbox.runtimes import python, runtime

PROGRAM: Final = "deno"
_INSIDE_PROGRAM: Final = f"{runtime.ROOT}/deno"
_MAPS: Final = "/proc/self/maps"
_TRACE_S_MAX: Final = 60.0
# "libc.so.6 => /lib/libc.so.6 (0x7f…)", and the loader itself without the arrow.
_LOADED: Final = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)
_LOADER: Final = re.compile(r"/ld-[^/]+$")


def find() -> str | None:
    """Return the path of Deno: beside this interpreter, where PyPI puts it, or on PATH."""
    beside = pathlib.Path(sys.prefix, "bin", PROGRAM)
    found = beside if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    return str(pathlib.Path(found).resolve()) if found else None


async def discover() -> runtime.Runtime:
    """Return what a cell needs to run Deno behind Python's init. MissingError without Deno."""
    program = find()
    if program is None:
        raise runtime.MissingError("Deno is not here: pip install 'loopai[javascript]'")
    base, libraries = await asyncio.gather(python.discover(), asyncio.to_thread(_loaded, program))
    files = {
        **python.targets(libraries),
        **base.files,
        _INSIDE_PROGRAM: program,
        # The C library looks its stack up there, and Deno's compiler ends the process if it
        # cannot: this one says that there is room.
        _MAPS: str(python.INSIDE / "javascript/maps"),
    }
    folders = dict.fromkeys(os.path.dirname(name) for name in libraries)  # noqa: PTH120
    loader = next((name for name in libraries if _LOADER.search(name)), None)
    if loader is None:
        raise runtime.MissingError(f"{program} does not say which loader it needs")
    return msgspec.structs.replace(
        base,
        name="deno",
        files=files,
        # Some of its own modules ask where it lies, and end the process when nobody knows.
        links={"/proc/self/exe": _INSIDE_PROGRAM},
        forked=False,
        config={
            "runtime": "deno",
            "deno": {
                "program": _INSIDE_PROGRAM,
                "loader": loader,
                "libraries": ":".join(folders),
                "script": f"{runtime.INSIDE}/javascript/executor.js",
                "imports": f"{runtime.INSIDE}/javascript/imports.json",
                "maps": _MAPS,
            },
        },
    )


def _loaded(program: str) -> list[str]:
    """Shared objects that *program* needs, asked of the loader; runs nothing of the program."""
    done = subprocess.run(
        [program],
        env={"LD_TRACE_LOADED_OBJECTS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TRACE_S_MAX,
        check=False,
    )
    return _LOADED.findall(done.stdout)
