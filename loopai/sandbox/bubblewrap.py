"""The command line of a cell: which namespaces it gets and which files it sees."""

import os
import pathlib
import secrets
import shutil
from collections.abc import Sequence
from typing import Final

import msgspec

from loopai.sandbox import limits as limits_
from loopai.sandbox.runtimes import runtime as runtime_

PROGRAM: Final = "bwrap"
_DEVICES: Final = ("/dev/null", "/dev/urandom")

_CAPABILITIES: Final = {"KILL": 5, "SETGID": 6, "SETUID": 7, "NET_ADMIN": 12, "SYS_ADMIN": 21}
_USERS_MAX: Final = 2**30
_UID_MAX: Final = 2**31 - 2


def find() -> str:
    """Return the path of bubblewrap."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise runtime_.MissingError("bubblewrap (bwrap) is not on PATH: apt-get install bubblewrap")
    return path


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
    bwrap: str, runtime: runtime_.Runtime, limits: limits_.Limits, *, as_root: bool, control_fd: int
) -> Sequence[str]:
    """Return the argv of a cell whose init has its control socket at *control_fd*."""
    config = {**runtime.config, "limits": msgspec.to_builtins(limits)}
    code = f"import sys; sys.path.insert(0, {runtime_.ROOT!r})\n"
    # As a literal: decoding JSON would take init a megabyte.
    code += f"from loopai.sandbox.inside import init; init.main({control_fd}, {config!r})"
    return [
        bwrap,
        *_namespaces(as_root=as_root),
        *_files(runtime),
        "--",
        *runtime.interpreter,
        "-c",
        code,
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


def _files(runtime: runtime_.Runtime) -> list[str]:
    """Nothing that could be written to (ADR 0011). No /proc; no --dev, whose /dev/shm could be."""
    argv = []
    # bubblewrap would give these parents the modes they have outside: in root's home, nobody's.
    parents = {
        str(parent)
        for path in (*runtime.files, *runtime.links, *_DEVICES)
        for parent in pathlib.PurePath(path).parents
    }
    for folder in sorted(parents - {"/"}):
        argv += ["--perms", "0755", "--dir", folder]
    for inside, outside in runtime.files.items():
        argv += ["--ro-bind", outside, inside]
    for path in runtime.hidden:
        argv += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
    for path, target in runtime.links.items():
        argv += ["--symlink", target, path]
    for name, value in runtime.environment.items():
        argv += ["--setenv", name, value]
    for device in _DEVICES:
        argv += ["--dev-bind", device, device]
    return [*argv, "--chdir", "/", "--remount-ro", "/"]
