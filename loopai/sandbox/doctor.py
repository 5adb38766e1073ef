"""Says whether this machine can keep programs in, and proves it with a cell."""

import ctypes
import os
import subprocess
import sys
import time
from typing import Final

import msgspec

from loopai.sandbox import bubblewrap, enclosure, pool, program
from loopai.sandbox import limits as limits_
from loopai.sandbox.inside import landlock, seccomp

_PR_GET_SECCOMP: Final = 21
_PROBE_TIMEOUT_MS: Final = 5_000.0
# Returns what it could reach and must not. The import statement would refuse these modules for
# clarity's sake; the probe asks the kernel.
_PROBE: Final = """
import json

def run(path):
    load = json.__builtins__["__import__"]
    os, socket = load("os"), load("socket")
    reached = []
    for name, attempt in (
        ("read a file of the host", lambda: open(path).read()),
        ("list /proc", lambda: os.listdir("/proc")),
        ("write outside /tmp", lambda: open("/probe", "w")),
        ("open a network socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        ("open a local socket", lambda: socket.socket(socket.AF_UNIX)),
        ("start a process", os.fork),
    ):
        try:
            attempt()
        except OSError:
            continue
        reached.append(name)
    return reached
"""


class Unavailable(Exception):  # noqa: N818 (it is what the sandbox is)
    """The sandbox cannot be used here. Each of *missing* says one piece and how to get it."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__("the sandbox is not available: " + "; ".join(missing))
        self.missing = missing


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox stands on here. All of it was tried by a cell that did as it should."""

    bubblewrap: str
    """Version."""
    kernel: str
    landlock_abi: int
    privileged: bool
    """Whether namespaces are made as root, with a uid for each executor, or in a user namespace."""
    interpreter: str
    cold_ms: float
    """From nothing to the first result, discovery of the interpreter's files included."""


async def require() -> Report:
    """Check every layer and run a probe cell; raises Unavailable unless all of them hold."""
    missing = _missing()
    if missing:
        raise Unavailable(missing)
    begun = time.monotonic()
    await _probe()
    libc = ctypes.CDLL(None, use_errno=True)
    return Report(
        bubblewrap=_version(),
        kernel=os.uname().release,
        landlock_abi=landlock.abi(libc),
        privileged=bubblewrap.privileged(),
        interpreter=bubblewrap.executable(),
        cold_ms=(time.monotonic() - begun) * 1000,
    )


def _missing() -> tuple[str, ...]:
    if not sys.platform.startswith("linux"):
        return (f"Linux (this is {sys.platform}): run Loopai in a Linux machine or container",)
    missing = []
    try:
        bubblewrap.find()
    except bubblewrap.MissingError as error:
        missing.append(str(error))
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        seccomp.compile_filter(os.uname().machine)
    except seccomp.UnsupportedError as error:
        missing.append(f"seccomp: {error}; x86_64 and aarch64 have one")
    if libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        missing.append("seccomp: the kernel was built without CONFIG_SECCOMP_FILTER")
    if landlock.abi(libc) < 1:
        missing.append(
            "Landlock: needs Linux 5.13 or later with landlock among the security modules "
            "(boot with lsm=landlock,...), and a container profile that allows its system calls"
        )
    return tuple(missing)


async def _probe() -> None:
    limits = limits_.Limits()
    cells = pool.CellPool(limits, cells_max=1)
    probe = program.Program(tenant="doctor", digest="probe", code=_PROBE)
    path = msgspec.json.encode(__file__)
    try:
        (result,) = await cells.run(probe, [path], [_PROBE_TIMEOUT_MS])
    except (bubblewrap.MissingError, enclosure.EnclosureError, OSError) as error:
        raise Unavailable((f"a probe cell does not start: {error}",)) from error
    finally:
        await cells.close()
    if result.kind == "lost":
        raise Unavailable((f"a probe cell does not start: {result.message}{_advice()}",))
    if result.output is None:
        raise Unavailable((f"a probe cell does not work: {result.kind}: {result.message}",))
    reached = msgspec.json.decode(result.output, type=list[str])
    if reached:
        raise Unavailable(tuple(f"a boundary: a probe program could {name}" for name in reached))


def _advice() -> str:
    if bubblewrap.privileged():
        return ""
    return (
        " (as an ordinary user bubblewrap needs user namespaces: sysctl user.max_user_namespaces "
        "above 0, and where they exist kernel.unprivileged_userns_clone=1 and "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container, also a writable "
        "/proc/sys; or run as root)"
    )


def _version() -> str:
    done = subprocess.run(
        [bubblewrap.find(), "--version"], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip().removeprefix("bubblewrap ")
