"""The command line of a cell: which namespaces it gets and which files it sees."""

import asyncio
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from loopai.sandbox import limits as limits_
from loopai.sandbox import modules

PROGRAM: Final = "bwrap"
_INSIDE: Final = pathlib.Path(__file__).parent / "inside"
# The same module path as outside, so that the files import each other alike in both places.
_ROOT: Final = "/cell"
_INSIDE_BOUND: Final = f"{_ROOT}/loopai/sandbox/inside"
_HIDDEN: Final = ("site-packages", "dist-packages", "test", "idlelib", "ensurepip", "lib2to3")
# Not -I: it would ignore PYTHONHASHSEED. The environment is ours alone, so -E is not needed.
_FLAGS: Final = ("-s", "-P", "-S", "-B", "-X", "utf8")
_PROBE_S_MAX: Final = 60.0

_CAPABILITIES: Final = {"KILL": 5, "SETGID": 6, "SETUID": 7, "NET_ADMIN": 12, "SYS_ADMIN": 21}
_USERS_MAX: Final = 2**30
_UID_MAX: Final = 2**31 - 2


class MissingError(Exception):
    """A piece of the sandbox is not there. The message says which and how to get it."""


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a Python, by their paths outside, which are their paths inside too."""

    executable: str
    stdlib: str
    libraries: tuple[str, ...]
    """As the loader found them: links, whose targets are bound under the link's name."""


def find() -> str:
    """Return the path of bubblewrap."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise MissingError("bubblewrap (bwrap) is not on PATH: apt-get install bubblewrap")
    return path


def executable() -> str:
    """Return the interpreter below this process's venv, whose own link wants a pyvenv.cfg."""
    base: str = sys._base_executable  # type: ignore[attr-defined]  # noqa: SLF001 (sole way)
    return os.path.realpath(base)


async def discover() -> Interpreter:
    """Ask this process's base interpreter which files it needs. Takes about 150 ms."""
    python = executable()
    root = _INSIDE.parents[2]
    packages = _packages(root)
    # Past the packages' own __init__ files, which may import what the cell does not have.
    code = f"""
import sys, types
for name, path in {packages!r}:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from loopai.sandbox.inside import probe
probe.main()
"""
    argv = [python, *_FLAGS, "-c", code, json.dumps(sorted(modules.ALLOWED))]
    done = await asyncio.to_thread(
        subprocess.run,
        argv,
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PROBE_S_MAX,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()[-500:]
        raise MissingError(f"the interpreter {python} cannot run a cell: {reason}")
    found = json.loads(done.stdout)
    return Interpreter(
        executable=python, stdlib=found["stdlib"], libraries=tuple(found["libraries"])
    )


def _packages(root: pathlib.Path) -> list[tuple[str, str]]:
    return [("loopai", str(root / "loopai")), ("loopai.sandbox", str(root / "loopai" / "sandbox"))]


def privileged() -> bool:
    """Whether this process makes namespaces as root and can give executors uids of their own."""
    if os.geteuid() != 0:
        return False
    wanted = sum(1 << number for number in _CAPABILITIES.values())
    status = pathlib.Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return effective & wanted == wanted and _mapped() > 2**16


def user() -> int:
    """Return a uid that nothing else on this machine is likely to have."""
    mapped = _mapped()
    return mapped - 1 - secrets.randbelow(min(mapped // 2, _USERS_MAX))


def _mapped() -> int:
    """How many uids from 0 on this user namespace has."""
    for line in pathlib.Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first == 0:
            return min(count, _UID_MAX)
    return 1


def command(
    bwrap: str,
    interpreter: Interpreter,
    limits: limits_.Limits,
    *,
    as_root: bool,
    control_fd: int,
) -> Sequence[str]:
    """Return the argv of a cell whose init has its control socket at *control_fd*."""
    config = {"limits": msgspec.to_builtins(limits), "modules": sorted(modules.ALLOWED)}
    code = f"import sys; sys.path.insert(0, {_ROOT!r})\n"
    code += "from loopai.sandbox.inside import init; init.main()"
    return [
        bwrap,
        *_namespaces(as_root=as_root),
        *_files(interpreter, limits),
        "--",
        interpreter.executable,
        *_FLAGS,
        "-c",
        code,
        str(control_fd),
        json.dumps(config),
    ]


def _namespaces(*, as_root: bool) -> list[str]:
    argv = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    argv += ["--unshare-cgroup-try", "--hostname", "cell", "--new-session", "--die-with-parent"]
    argv += ["--as-pid-1", "--clearenv", "--cap-drop", "ALL"]
    if as_root:
        # Only for init to give each executor a uid, which takes them away for good.
        argv += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        argv += ["--unshare-user", "--disable-userns"]
    return argv


def _files(interpreter: Interpreter, limits: limits_.Limits) -> list[str]:
    """Read-only but for /tmp. No /proc; no --dev, whose /dev/shm would escape the size limit."""
    # bubblewrap would give these parents the modes they have outside: in root's home, nobody's.
    parents = (
        pathlib.PurePath(interpreter.executable).parents,
        pathlib.PurePath(interpreter.stdlib).parents,
    )
    argv = []
    for folder in sorted({str(parent) for group in parents for parent in group} - {"/"}):
        argv += ["--perms", "0755", "--dir", folder]
    argv += ["--ro-bind", interpreter.executable, interpreter.executable]
    argv += ["--ro-bind", interpreter.stdlib, interpreter.stdlib]
    for name in _HIDDEN:
        path = f"{interpreter.stdlib}/{name}"
        if os.path.isdir(path):  # noqa: PTH112 (a string in, a string out)
            argv += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
    for library in interpreter.libraries:
        argv += ["--ro-bind", os.path.realpath(library), library]
    folders = dict.fromkeys(os.path.dirname(name) for name in interpreter.libraries)  # noqa: PTH120
    # There is no ld.so.cache inside; hash seeds are fixed so that a program that iterates over a
    # set gives the same answer in every executor.
    argv += ["--setenv", "LD_LIBRARY_PATH", ":".join(folders), "--setenv", "PYTHONHASHSEED", "0"]
    argv += ["--ro-bind", str(_INSIDE), _INSIDE_BOUND]
    for device in ("/dev/null", "/dev/urandom"):
        argv += ["--dev-bind", device, device]
    argv += ["--perms", "1777", "--size", str(limits.tmp_bytes_max), "--tmpfs", "/tmp"]  # noqa: S108 (the cell's own)
    return [*argv, "--chdir", "/tmp", "--remount-ro", "/"]  # noqa: S108
