"""Programs in Python; and the interpreter that runs init in every cell."""

import asyncio
import compileall
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from loopai.sandbox import modules
from loopai.sandbox.runtimes import runtime

INSIDE: Final = pathlib.Path(__file__).parents[1] / "inside"
_HIDDEN: Final = ("site-packages", "dist-packages", "test", "idlelib", "ensurepip", "lib2to3")
# Not -I: it would ignore PYTHONHASHSEED. The environment is ours alone, so -E is not needed.
_FLAGS: Final = ("-s", "-P", "-S", "-B", "-X", "utf8", "-X", "no_debug_ranges")
_PROBE_S_MAX: Final = 60.0


def executable() -> str:
    """Return the interpreter below this process's venv, whose own link wants a pyvenv.cfg."""
    base: str = sys._base_executable  # type: ignore[attr-defined]  # noqa: SLF001 (sole way)
    return os.path.realpath(base)


async def discover() -> runtime.Runtime:
    """Ask this process's base interpreter which files it needs. Takes about 150 ms."""
    python = executable()
    stdlib, libraries = await _probed(python)
    # Else every init compiles them: 0.4 MB and 10 ms of each cell. pip has done so where it
    # installed us, perhaps where we may not write.
    await asyncio.to_thread(compileall.compile_dir, INSIDE, quiet=2)
    files = {python: python, stdlib: stdlib, runtime.INSIDE: str(INSIDE), **targets(libraries)}
    folders = dict.fromkeys(os.path.dirname(name) for name in libraries)  # noqa: PTH120
    return runtime.Runtime(
        name="python",
        interpreter=(python, *_FLAGS),
        files=files,
        hidden=tuple(_folders(stdlib)),
        # There is no ld.so.cache inside; hash seeds are fixed so that a program that iterates over
        # a set gives the same answer in every executor.
        environment={"LD_LIBRARY_PATH": ":".join(folders), "PYTHONHASHSEED": "0"},
        forked=True,
        config={"runtime": "python", "modules": sorted(modules.ALLOWED)},
    )


def targets(libraries: Iterable[str]) -> dict[str, str]:
    """By name as the loader found them, which may be a link: the file itself."""
    return {name: os.path.realpath(name) for name in libraries}


def _folders(stdlib: str) -> Iterator[str]:
    for name in _HIDDEN:
        path = f"{stdlib}/{name}"
        if os.path.isdir(path):  # noqa: PTH112 (a string in, a string out)
            yield path


async def _probed(python: str) -> tuple[str, list[str]]:
    """Path of the standard library, and the shared objects that *python* loads for all of it."""
    # Past the packages' own __init__ files, which may import what the cell does not have.
    code = f"""
import sys, types
for name, path in {_packages()!r}:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from loopai.sandbox.inside import probe
probe.main()
"""
    done = await asyncio.to_thread(
        subprocess.run,
        [python, *_FLAGS, "-c", code, json.dumps(sorted(modules.ALLOWED))],
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PROBE_S_MAX,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()[-500:]
        raise runtime.MissingError(f"the interpreter {python} cannot run a cell: {reason}")
    found = json.loads(done.stdout)
    return found["stdlib"], found["libraries"]


def _packages() -> list[tuple[str, str]]:
    sandbox = INSIDE.parent
    return [("loopai", str(sandbox.parent)), ("loopai.sandbox", str(sandbox))]
