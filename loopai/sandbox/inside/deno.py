"""The executor of programs in JavaScript and TypeScript: hardens itself, then becomes Deno.

`javascript/executor.js` does the rest, in Deno: it gives up what only its start needed, loads the
program and runs its calls.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource

from loopai.sandbox.inside import hardening, landlock, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DATA_FD, PAGE_FD = 3, 4
_ABOVE_ALL = 10
_CODE_BYTES = 512 * 1024 * 1024
"""V8 reserves this for machine code and makes all of it writable: it counts as data."""
_OWN_BYTES = 96 * 1024 * 1024
_FILES_MAX = 32
_THREADS_MAX = 64
_NUMBERS = {
    "x86_64": {"seccomp": 317, "ioctl": 16, "userfaultfd": 323},
    "aarch64": {"seccomp": 277, "ioctl": 29, "userfaultfd": 282},
}


class Runtime:
    """Made once by init; `become` runs in a fresh fork and ends in Deno."""

    def __init__(self, config: Mapping[str, Any], machine: str) -> None:
        limits, paths = config["limits"], config["deno"]
        memory = limits["memory_bytes_max"]
        self._lines = seccomp.compile_filter(machine, seccomp.DENO_START, starting=True)
        self._bounds = {
            **hardening.NOTHING,
            # Not the address space, of which V8 reserves gigabytes without using them.
            resource.RLIMIT_DATA: memory + _CODE_BYTES + _OWN_BYTES,
            resource.RLIMIT_STACK: limits["stack_bytes_max"],
            resource.RLIMIT_NOFILE: max(limits["files_max"], _FILES_MAX),
            resource.RLIMIT_NPROC: _THREADS_MAX,
        }
        own = {"data_fd": DATA_FD, "page_fd": PAGE_FD, **_NUMBERS[machine]}
        self._argv = [
            paths["program"],
            "run",
            # No permission but that of calling into libc, which the script gives up.
            "--no-prompt",
            "--allow-ffi",
            "--no-remote",
            "--no-npm",
            "--no-config",
            "--no-lock",
            "--no-code-cache",
            # Nothing but its own text: our files, which are loaded already, least of all.
            f"--import-map={paths['imports']}",
            # One thread: what a program costs is what it is given. Its memory ends where the limit
            # is, with a word of it; typed arrays lie outside and meet RLIMIT_DATA.
            f"--v8-flags=--single-threaded,--expose-gc,--max-old-space-size={memory >> 20}",
            paths["script"],
            _json(limits),
            _json(own),
            seccomp.compile_filter(machine, seccomp.DENO).hex(),
        ]
        self._environment = {
            "DENO_DIR": "/nowhere",
            "DENO_NO_UPDATE_CHECK": "1",
            "LD_LIBRARY_PATH": paths["libraries"],
            "MALLOC_ARENA_MAX": "1",
            "NO_COLOR": "1",
        }
        self.grants = {
            paths["program"]: landlock.EXECUTE,
            paths["loader"]: landlock.EXECUTE,
            **dict.fromkeys(paths["libraries"].split(":"), landlock.READ),
            os.path.dirname(paths["script"]): landlock.READ,  # noqa: PTH120 (no pathlib here)
            paths["maps"]: landlock.READ,
            "/dev/null": landlock.READ | landlock.WRITE,
            "/dev/urandom": landlock.READ,
        }

    def become(
        self, libc: ctypes.CDLL, *, rules: int, channel: int, page: int, user: int | None
    ) -> None:
        # Out of the way first: either may have the number that the other is to get.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE_ALL) for fd in (channel, page)]
        kept = [fcntl.fcntl(rules, fcntl.F_DUPFD, _ABOVE_ALL)]
        os.dup2(high[0], DATA_FD)
        os.dup2(high[1], PAGE_FD)
        hardening.harden(
            libc,
            rules=kept[0],
            bounds=self._bounds,
            user=user,
            fds=PAGE_FD + 1,
            lines=self._lines,
        )
        os.execve(self._argv[0], self._argv, self._environment)  # noqa: S606 (no shell is there)


def _json(numbers: Mapping[str, float]) -> str:
    return "{" + ", ".join(f'"{name}": {number}' for name, number in numbers.items()) + "}"
