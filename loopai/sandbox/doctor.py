"""Says whether this machine can keep programs in, and proves it with a cell."""

import asyncio
import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from typing import Final, Literal

import msgspec

from loopai.sandbox import bubblewrap, cgroups, enclosure, escapes, pool, program
from loopai.sandbox import limits as limits_
from loopai.sandbox.inside import landlock, seccomp
from loopai.sandbox.runtimes import deno, python, runtime
from streams import messages

_PR_GET_SECCOMP: Final = 21
_VERSION_S_MAX: Final = 10.0
_LEVELS: Final = (
    (1, "files"),
    (2, "moving files between folders"),
    (3, "truncation"),
    (4, "TCP"),
    (5, "device commands"),
    (6, "signals and abstract sockets"),
)
"""What each ABI level of Landlock brought that a cell uses."""

_ADVICE: Final = {
    "max_user_namespaces: Read-only": (
        "in a container an ordinary user needs a writable /proc/sys: systempaths=unconfined for "
        "Docker, unmask=ALL for podman, procMount: Unmasked with hostUsers: false for Kubernetes"
    ),
    "setting up uid map": (
        "root without capabilities cannot: run as an ordinary user, or as root with SYS_ADMIN, "
        "NET_ADMIN, SETUID, SETGID and KILL"
    ),
    "new namespace": (
        "an ordinary user needs user namespaces: sysctl user.max_user_namespaces above 0, and "
        "where they exist kernel.unprivileged_userns_clone=1 and "
        "kernel.apparmor_restrict_unprivileged_userns=0"
    ),
    "not permitted": (
        "in a container take away the runtime's seccomp and AppArmor profiles, "
        "seccomp=unconfined and apparmor=unconfined; docs/how-to/deploy.md has all that cells need"
    ),
    "Permission denied": (
        "AppArmor or SELinux may refuse it: apparmor=unconfined in a container; on Ubuntu 24.04 "
        "and later sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    ),
}
"""What bubblewrap's complaints mean; the first that is found."""

State = Literal["there", "missing", "absent"]


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


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the sandbox stands on."""

    name: str
    state: State
    """`missing` is needed; `absent` is not, and the detail says what it would bring."""
    detail: str


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that this machine offers, and what came of trying to get out of a cell."""

    fit: bool
    """Nothing is missing, and every attempt was refused."""
    layers: tuple[Layer, ...]
    attempts: tuple[escapes.Attempt, ...] = ()
    """Empty where a layer is missing or no cell starts: there is none to try them in."""
    problems: tuple[str, ...] = ()
    """Why it is not fit: a line for each piece, with how to get it."""
    cold_ms: float = 0.0


async def require(
    bounds: limits_.Limits | None = None, *, languages: Collection[messages.Language] = ()
) -> Report:
    """Check every layer and run a probe cell; raises Unavailable unless all of them hold.

    The cell has the limits *bounds* (None: the defaults), so that one which is too tight for any
    program is found here and not by every caller. With JavaScript among *languages* a cell of Deno
    must work as well.
    """
    missing = _missing()
    if missing:
        raise Unavailable(tuple(missing.values()))
    limits = bounds or limits_.Limits()
    begun = time.monotonic()
    problems = _problems(await _try("python", escapes.QUICK, limits))
    if problems:
        raise Unavailable(problems)
    cold_ms = (time.monotonic() - begun) * 1000
    if not {"javascript", "typescript"}.isdisjoint(languages):
        await _require_deno(limits)
    return Report(
        bubblewrap=await asyncio.to_thread(_version, bubblewrap.find()),
        kernel=os.uname().release,
        landlock_abi=_landlock_abi(),
        privileged=bubblewrap.privileged(),
        interpreter=python.executable(),
        cold_ms=cold_ms,
    )


async def _require_deno(limits: limits_.Limits) -> None:
    try:
        problems = _problems(await _try("javascript", escapes.QUICK_JAVASCRIPT, limits))
    except Unavailable as error:
        problems = error.missing
    if problems:
        advice = "mend it, or go without JavaScript: LOOPAI_RUNTIMES=python"
        raise Unavailable((f"Deno, {deno.find()}, does not work: {problems[0]}; {advice}",))


async def inspect() -> Inspection:
    """Look at every layer, then try every escape. Takes about a second; raises nothing."""
    missing = _missing()
    layers = await asyncio.to_thread(_layers, missing)
    if missing:
        return Inspection(fit=False, layers=layers, problems=tuple(missing.values()))
    begun = time.monotonic()
    try:
        limits = limits_.Limits()
        attempts = await _try("python", escapes.PYTHON, limits)
        if deno.find() is not None:
            attempts += await _try("javascript", escapes.JAVASCRIPT, limits)
    except Unavailable as error:
        return Inspection(fit=False, layers=layers, problems=error.missing)
    problems = _problems(attempts)
    return Inspection(
        fit=not problems,
        layers=layers,
        attempts=attempts,
        problems=problems,
        cold_ms=(time.monotonic() - begun) * 1000,
    )


def _missing() -> dict[str, str]:
    """What a cell cannot do without and this machine lacks: layer, and how to get it."""
    if not sys.platform.startswith("linux"):
        wanted = f"Linux (this is {sys.platform}): run Loopai in a Linux machine or container"
        return {"kernel": wanted}
    missing = {}
    try:
        bubblewrap.find()
    except runtime.MissingError as error:
        missing["bubblewrap"] = str(error)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        seccomp.compile_filter(os.uname().machine, seccomp.PYTHON)
    except seccomp.UnsupportedError as error:
        missing["seccomp"] = f"seccomp: {error}; x86_64 and aarch64 have one"
    if libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        missing["seccomp"] = "seccomp: the kernel was built without CONFIG_SECCOMP_FILTER"
    if landlock.abi(libc) < 1:
        missing["Landlock"] = (
            "Landlock: needs Linux 5.13 or later with landlock among the security modules "
            "(boot with lsm=landlock,...), and a container profile that allows its system calls"
        )
    return missing


def _layers(missing: dict[str, str]) -> tuple[Layer, ...]:
    named = {"kernel": _kernel}
    if "kernel" not in missing:
        named |= {
            "bubblewrap": lambda: _version(bubblewrap.find()),
            "namespaces": _namespaces,
            "seccomp": lambda: f"a filter of our own for {os.uname().machine}",
            "Landlock": _landlock,
            "Python": lambda: f"{platform.python_version()}, {python.executable()}",
        }
    layers = [
        Layer(name=name, state="missing", detail=missing[name])
        if name in missing
        else Layer(name=name, state="there", detail=describe())
        for name, describe in named.items()
    ]
    return (*layers, _cgroups(), _deno())


def _kernel() -> str:
    return f"{platform.system()} {platform.release()}"


def _namespaces() -> str:
    if bubblewrap.privileged():
        return "made as root; each executor is a user of its own"
    return f"made in a user namespace, as user {os.geteuid()}"


def _landlock() -> str:
    level = _landlock_abi()
    guarded = [what for since, what in _LEVELS if since <= level]
    lacking = [what for since, what in _LEVELS if since > level]
    text = f"ABI {level}: {', '.join(guarded)}"
    # Not missing: seccomp and the namespaces stop the same, one layer less deep.
    return f"{text}; not {', '.join(lacking)}, which other layers stop" if lacking else text


def _landlock_abi() -> int:
    return landlock.abi(ctypes.CDLL(None, use_errno=True))


def _cgroups() -> Layer:
    try:
        found = cgroups.find()
    except (cgroups.UnavailableError, OSError) as error:
        detail = f"{error}; rlimits bound each process, nothing bounds a cell as a whole"
        return Layer(name="cgroups", state="absent", detail=detail)
    found.close()
    return Layer(name="cgroups", state="there", detail=str(found))


def _deno() -> Layer:
    path = deno.find()
    if path is None:
        detail = "not installed, for programs in JavaScript and TypeScript: "
        return Layer(
            name="Deno", state="absent", detail=detail + "pip install 'loopai[javascript]'"
        )
    return Layer(name="Deno", state="there", detail=f"{_version(path)}, {path}")


def _version(path: str) -> str:
    """What a program calls its version: the first number that it prints."""
    done = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=_VERSION_S_MAX, check=False
    )
    numbers = [word for word in done.stdout.split() if word[:1].isdecimal()]
    return numbers[0] if numbers else "of unknown version"


async def _try(
    language: messages.Language, attempted: Sequence[escapes.Escape], limits: limits_.Limits
) -> tuple[escapes.Attempt, ...]:
    """Try escapes in a cell; raises Unavailable if no cell works."""
    code = escapes.PYTHON_PROBE if language == "python" else escapes.JAVASCRIPT_PROBE
    probe = program.Program(tenant="doctor", digest="probe", code=code, language=language)
    inputs = [
        msgspec.json.encode(
            escapes.Setting(
                attempt=escape.name,
                file=__file__,
                executable=python.executable(),
                memory_bytes=limits.memory_bytes_max,
            )
        )
        for escape in attempted
    ]
    cells = pool.CellPool(limits, cells_max=1)
    try:
        await cells.load(probe)
        outcomes = await cells.run(probe, inputs, [escape.timeout_ms for escape in attempted])
    except program.LoadError as error:
        raise Unavailable((f"a probe cell does not work: {error}",)) from error
    except (runtime.MissingError, enclosure.EnclosureError, OSError) as error:
        raise Unavailable(
            (f"a probe cell does not start: {error}{_advice(str(error))}",)
        ) from error
    finally:
        await cells.close()
    return tuple(map(escapes.judge, attempted, outcomes))


def _problems(attempts: Sequence[escapes.Attempt]) -> tuple[str, ...]:
    return tuple(
        f"a boundary: a probe program could {attempt.name}"
        if attempt.verdict == "reached"
        else f"a boundary: it is unclear whether a program could {attempt.name}: {attempt.detail}"
        for attempt in attempts
        if attempt.verdict != "refused"
    )


def _advice(complaint: str) -> str:
    """How to get what bubblewrap missed, by what it says."""
    found = next((advice for sign, advice in _ADVICE.items() if sign in complaint), "")
    return f" ({found})" if found else ""
