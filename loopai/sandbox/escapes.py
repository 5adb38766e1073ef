"""What a hostile program would try first, as a self-test: each attempt must be refused."""

from typing import Final, Literal

import msgspec

from loopai.sandbox import outcome
from streams import messages

Verdict = Literal["refused", "reached", "unclear"]


class Escape(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. The probe program of its language knows it by *name*."""

    name: str
    """Goes on after "a program could …"."""
    language: messages.Language = "python"
    ends: tuple[outcome.OutcomeKind, ...] = ()
    """How the call ends when it is refused; none where the probe lives on and says so itself."""
    timeout_ms: float = 5_000.0


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an escape."""

    name: str
    language: messages.Language
    verdict: Verdict
    detail: str = ""
    """Why it is unclear; else empty."""


def judge(escape: Escape, ended: outcome.Outcome) -> Attempt:
    """Only what is known to have been refused is refused."""
    verdict: Verdict = "unclear"
    if ended.kind in escape.ends or (not escape.ends and ended.output == b"false"):
        verdict = "refused"
    elif ended.kind == "success":
        verdict = "reached"
    detail = f"{ended.kind}: {ended.message}" if verdict == "unclear" else ""
    return Attempt(name=escape.name, language=escape.language, verdict=verdict, detail=detail)


QUICK: Final = tuple(
    Escape(name=name)
    for name in (
        "read a file of the host",
        "list /proc",
        "write a file",
        "open a network socket",
        "open a local socket",
        "start a process",
    )
)
"""What a worker tries at its start; it must not take long."""

PYTHON: Final = (
    # A loop in C, which never looks at signals.
    Escape(name="run past its deadline", ends=("timeout",), timeout_ms=50.0),
    *QUICK,
    *(
        Escape(name=name)
        for name in (
            "run another program",
            "start a thread",
            "signal a process",
            "trace a process",
            "make a namespace",
            "mount a file system",
            "use io_uring",
            "raise its own limits",
            "map memory that can be executed",
            "take more memory than it may",
            "see the environment of the host",
        )
    ),
    Escape(name="forge an answer", ends=("killed",)),
)

# The import statement would refuse these modules for clarity's sake; the probe asks the kernel.
# Everything that it loads is there already: init and the executor are made of it.
PYTHON_PROBE: Final = """
import json

load = json.__builtins__["__import__"]
ctypes, mmap, os, resource, socket, thread = map(
    load, ("ctypes", "mmap", "os", "resource", "socket", "_thread")
)
libc = ctypes.CDLL(None, use_errno=True)
# Over itself: nothing is hurt where it is allowed.
DEVICE, MS_BIND = b"/dev/null", 4096


def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def fork(_):
    if os.fork() == 0:
        os._exit(0)


def write(_):
    for path in ("/probe", "/tmp/probe"):
        try:
            open(path, "w").close()
        except OSError:
            continue
        return
    raise OSError("nowhere")


def raise_limits(_):
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def look_around(_):
    if not {"PATH", "HOME", "LOOPAI_NATS_URL"} & set(os.environ):
        raise OSError("nothing there")


ATTEMPTS = {
    "read a file of the host": lambda setting: open(setting["file"]).read(),
    "list /proc": lambda _: os.listdir("/proc"),
    "write a file": write,
    "open a network socket": lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a local socket": lambda _: socket.socket(socket.AF_UNIX),
    "start a process": fork,
    "run another program": lambda setting: os.execv(setting["executable"], ["python", "-V"]),
    "start a thread": lambda _: thread.start_new_thread(int, ()),
    "signal a process": lambda _: os.kill(1, 0),
    "trace a process": lambda _: call("ptrace", 0, 0, 0, 0),
    "make a namespace": lambda _: call("unshare", 0x10000000),
    "mount a file system": lambda _: call("mount", DEVICE, DEVICE, None, MS_BIND, None),
    "use io_uring": lambda _: call("syscall", 425, 1, ctypes.create_string_buffer(120)),
    "raise its own limits": raise_limits,
    "map memory that can be executed": lambda _: mmap.mmap(-1, 4096, prot=7),
    "take more memory than it may": lambda setting: bytearray(setting["memory_bytes"]),
    "see the environment of the host": look_around,
    "forge an answer": lambda _: os.write(3, bytes(64)),
    "run past its deadline": lambda _: sum(range(10**11)),
}


def run(setting):
    try:
        ATTEMPTS[setting["attempt"]](setting)
    except (OSError, MemoryError):
        return False
    except (RuntimeError, ValueError) as error:
        # How a thread and a limit are refused in Python's words.
        if "thread" in str(error) or "limit" in str(error):
            return False
        raise
    return True
"""


JAVASCRIPT: Final = (
    Escape(name="run past its deadline", language="javascript", ends=("timeout",), timeout_ms=50.0),
    *(
        Escape(name=name, language="javascript")
        for name in (
            "read a file of the host",
            "import a file of the host",
            "list /proc",
            "write a file",
            "open a network socket",
            "start a process",
            "start a thread",
            "call into a C library",
            "be given a permission",
            "see the environment of the host",
        )
    ),
    Escape(name="take more memory than it may", language="javascript", ends=("out_of_memory",)),
)

QUICK_JAVASCRIPT: Final = (Escape(name="read a file of the host", language="javascript"),)
"""What a worker with Deno tries at its start: that a cell of it works at all."""

# The import is literal because Deno may read such a file without asking its permissions.
JAVASCRIPT_PROBE: Final = """
async function imported() {
  try {
    await import("file:///etc/passwd");
  } catch (error) {
    // Read, and not JavaScript.
    if (!String(error).includes("SyntaxError")) throw error;
  }
}

function take(setting) {
  const taken = [];
  for (let size = 0; size <= 8 * setting.memory_bytes; size += 2 ** 26) {
    taken.push(new Uint8Array(2 ** 26));
  }
  return taken.length;
}

function permission() {
  const { state } = Deno.permissions.requestSync({ name: "read" });
  if (state !== "granted") throw new Error(state);
}

const ATTEMPTS = {
  "read a file of the host": (setting) => Deno.readTextFileSync(setting.file),
  "import a file of the host": imported,
  "list /proc": () => [...Deno.readDirSync("/proc")],
  "write a file": () => Deno.writeTextFileSync("/tmp/probe", ""),
  "open a network socket": () => Deno.listen({ port: 0 }),
  "start a process": (setting) => new Deno.Command(setting.executable).outputSync(),
  "start a thread": () => new Worker("data:text/javascript,", { type: "module" }),
  "call into a C library": () => Deno.dlopen("libc.so.6", {}),
  "be given a permission": permission,
  "see the environment of the host": () => Deno.env.toObject(),
  "take more memory than it may": take,
  "run past its deadline": () => { for (;;); },
};

export async function run(setting) {
  const attempt = ATTEMPTS[setting.attempt];
  // Here and not below: what was never tried must not look as if it were refused.
  if (attempt === undefined) throw new Error(`no attempt ${setting.attempt}`);
  try {
    await attempt(setting);
  } catch (error) {
    // How the engine says that memory has run out.
    if (error instanceof RangeError) throw error;
    return false;
  }
  return true;
}
"""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe is told: which attempt, and what exists outside."""

    attempt: str
    file: str
    """Of the host; readable there."""
    executable: str
    memory_bytes: int
