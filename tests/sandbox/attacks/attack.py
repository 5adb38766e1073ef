"""An attack as data: a hostile program and how the call that runs it must end."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Area = Literal[
    "filesystem",
    "environment",
    "processes",
    "network",
    "resources",
    "stalls",
    "tampering",
    "results",
    "javascript",
]
End = Literal[
    "refused",
    "unloadable",
    "success",
    "error",
    "timeout",
    "out_of_memory",
    "output_too_large",
    "invalid_result",
    "killed",
]
"""An outcome, or two more: `refused` is a success whose attempt failed with one of `by`,
`unloadable` a program that no cell takes in."""

SHORT_MS = 150.0
"""For what never ends. The kill is some milliseconds after it, however busy the machine."""
LONG_MS = 10_000.0
"""For what ends by itself, on a busy machine too."""

HIDDEN = ("ENOENT", "EACCES")
"""No such file in the cell, or Landlock says no."""
SEALED = ("EACCES", "EROFS", "EPERM", "ENOENT")
"""For a change of a file: Landlock, a read-only mount, no such call or no such place."""


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """`name` says what does not happen, or how it ends.

    Asked to "look", a program lists what attacks have left.
    """

    name: str
    text: str
    """Source that defines `run(value)`, where value is a `Host` or "look"; see `program`."""
    ends: tuple[End, ...]
    alone: bool = True
    """In a program of its own. Otherwise the text is an input of one that is there: no less an
    attack, as each call of that may have a process of its own, but without the cost of a cell."""
    by: tuple[str, ...] = ()
    """For `refused`: names of errno, or of the exception where it has none."""
    value: object = msgspec.UNSET
    """For `success`: the answer, where it can be only one."""
    error_type: str = ""
    """For `error`: the name of the exception, where it can be only one."""
    timeout_ms: float = LONG_MS
    remark: str = ""
    """Stands before the program: another remark, another program, another cell."""
    language: Literal["python", "javascript", "typescript"] = "python"

    @property
    def program(self) -> str:
        """The program to load."""
        if self.language == "python":
            return self.remark + (_PRELUDE + self.text if self.alone else ATTEMPTS)
        return self.remark.replace("#", "//") + (self.text if self.alone else SCRIPT_ATTEMPTS)


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a program is told of its host: the more it knows, the harder it can try."""

    file: str
    stdlib: str
    python: str
    pid: int
    text: str = ""
    """The attack, where it is no program of its own."""


# Programs reach every module of the interpreter, which the import statement would refuse: the
# boundary under test is the kernel's. Static screening lets this through, too.
_PRELUDE = """
import json
load = json.__builtins__["__import__"]
os, socket, ctypes, signal, mmap, sys, time, errno = map(load, (
    "os", "socket", "ctypes", "signal", "mmap", "sys", "time", "errno"))
libc = ctypes.CDLL(None, use_errno=True)

def call(*arguments):
    answer = libc.syscall(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer

def look():
    for folder in ("/", "/tmp", "/var/tmp", "/dev/shm", os.getcwd()):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        yield from (ascii(name) for name in names if "attack" in name)

def nonce():
    frame = sys._getframe()
    while "nonce" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["nonce"].to_bytes(8, "little")
"""
_TEXT = """
SETUP
def attempt(host):
    BODY

def run(value):
    if value == "look":
        return sorted(look())
    CALL
"""
_RETURNED = "return attempt(value)"
_REPORTED = """try:
        return ["reached", repr(attempt(value))[:1000]]
    except OSError as error:
        return ["refused", errno.errorcode.get(error.errno, type(error).__name__)]"""

ATTEMPTS = (
    _PRELUDE
    + """
def run(value):
    if value == "look":
        return sorted(look())
    scope = dict(globals())
    exec(value["text"], scope)
    return scope["run"](value)
"""
)
"""Runs the attack that is its input."""

SCRIPT_ATTEMPTS = """
export async function run(value) {
  if (value === "look") return [];
  return await (0, eval)(value.text)(value);
}
"""
"""The same in JavaScript; there the text is an expression, a function."""

NEIGHBOUR = (
    _PRELUDE
    + """
def run(number):
    words = sorted(str(number + i) for i in range(5))
    return {"sum": sum(range(number)), "words": words, "files": sorted(look())}
"""
)
"""Another tenant's program: right only if nothing is amiss with its cell."""


def refused(name: str, body: str, *, by: Iterable[str] = ("EPERM",), alone: bool = False) -> Attack:
    """An attempt that the kernel answers with an error, EPERM where a call is not allowed."""
    text = _text("", body, _REPORTED)
    return Attack(name=name, text=text, alone=alone, ends=("refused",), by=tuple(by))


def gives(name: str, body: str, value: object, *, alone: bool = False) -> Attack:
    """An attempt that finds *value* and nothing else."""
    text = _text("", body, _RETURNED)
    return Attack(name=name, text=text, alone=alone, ends=("success",), value=value)


def invalid(name: str, body: str) -> Attack:
    """An attempt to return what is no JSON."""
    text = _text("", body, _RETURNED)
    return Attack(name=name, text=text, alone=False, ends=("invalid_result",))


def ends(
    name: str, body: str, *kinds: End, setup: str = "", error: str = "", timeout_ms: float = 0
) -> Attack:
    """An attempt that ends its call as one of *kinds*."""
    if not timeout_ms:
        timeout_ms = SHORT_MS if "timeout" in kinds else LONG_MS
    text = _text(setup, body, _RETURNED)
    return Attack(name=name, text=text, ends=kinds, error_type=error, timeout_ms=timeout_ms)


def unloadable(name: str, setup: str) -> Attack:
    """A program that attacks while it is loaded."""
    return Attack(name=name, text=_text(setup, "pass", "pass"), ends=("unloadable",))


def _text(setup: str, body: str, call: str) -> str:
    return (
        _TEXT.replace("CALL", call)
        .replace("SETUP", setup)
        .replace("BODY", body.replace("\n", "\n    "))
    )
