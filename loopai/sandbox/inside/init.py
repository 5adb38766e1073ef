"""pid 1 of a cell: trusted, imports the modules, forks executors, reaps them. Runs no program.

Messages on its SEQPACKET control socket, in msgpack, file descriptors beside them:

    to the host    ["ready", landlock ABI]         + pidfd of init
                   ["spawned", number]             + pidfd of the executor
                   ["exited", number, exit code]   in decimal; negative: the signal that killed it
    from the host  ["spawn", number, uid or 0]    + data socket, progress page

The end of the control socket is the end of the cell.
"""

import ctypes
import gc
import importlib
import json
import mmap
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from loopai.sandbox.inside import executor, landlock, result, seccomp, wire

_MESSAGE_BYTES_MAX = 4096
_TMP = "/tmp"  # noqa: S108 (the cell's own)


def preload(modules: list[str]) -> None:
    """Import all that a program may: afterwards nothing can be mapped executable."""
    for name in modules:
        importlib.import_module(name)
    # Imported on first use by modules that a program may import.
    for name in ("_strptime", "encodings.idna", "encodings.latin_1", "encodings.utf_16", "locale"):
        importlib.import_module(name)
    result.encode([{"warm": 1.5}], 100)


class Init:
    def __init__(self, control: socket.socket, config: Mapping[str, Any]) -> None:
        self._control = control
        self._config = config
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._lines = seccomp.compile_filter(os.uname().machine)
        level = landlock.abi(self._libc)
        if level < 1:
            raise OSError("landlock is not available in the cell")
        stdlib = os.path.dirname(os.__file__)  # noqa: PTH120 (pathlib costs an import)
        grants = {
            stdlib: landlock.READ,
            _TMP: landlock.READ_WRITE,
            "/dev/null": landlock.READ | landlock.WRITE,
            "/dev/urandom": landlock.READ,
        }
        self._rules = landlock.ruleset(self._libc, level, grants)
        self._children: dict[int, tuple[int, int]] = {}
        """pidfd: (number, pid)"""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._tell(["ready", level], os.pidfd_open(os.getpid()))

    def serve(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    self._obey()
                else:
                    self._reap(fd)

    def _obey(self) -> None:
        data, fds, _, _ = socket.recv_fds(
            self._control, _MESSAGE_BYTES_MAX, 2, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            os._exit(0)  # with pid 1 the kernel kills all that is left in the cell
        message: Any = wire.decode(memoryview(data))
        number, user = message[1], message[2]
        channel, page = fds
        pid = os.fork()
        if pid == 0:
            self._become_executor(channel, page, user or None)
        os.close(channel)
        os.close(page)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (number, pid)
        self._poll.register(pidfd, select.POLLIN)
        self._tell(["spawned", number], os.dup(pidfd))

    def _become_executor(self, channel: int, page: int, user: int | None) -> None:
        try:
            mapped = mmap.mmap(page, mmap.PAGESIZE)
            os.dup2(channel, executor.DATA_FD)
            executor.harden(
                self._libc,
                rules=self._rules,
                lines=self._lines,
                limits=self._config["limits"],
                user=user,
            )
            executor.Executor(self._config, mapped).serve()
        except BaseException:  # noqa: BLE001 (the process ends here)
            # To init's stderr while hardening, afterwards to the program's own capture.
            traceback.print_exc()
        finally:
            # Never back into init's loop, whatever was raised.
            os._exit(70)

    def _reap(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        self._tell(["exited", number, str(os.waitstatus_to_exitcode(status))], None)

    def _tell(self, message: list[str | int], fd: int | None) -> None:
        parts = [
            wire.text(part) if isinstance(part, str) else wire.integer(part) for part in message
        ]
        data = wire.array(len(parts)) + b"".join(parts)
        try:
            socket.send_fds(self._control, [data], [] if fd is None else [fd])
        except BrokenPipeError:
            os._exit(0)
        finally:
            if fd is not None:
                os.close(fd)


def main() -> None:
    """Run with the control socket's fd and the configuration in JSON as arguments."""
    control_fd, config = int(sys.argv[1]), json.loads(sys.argv[2])
    os.environ.clear()
    sys.argv = [""]
    sys.path.remove("/cell")
    # The lowest fds become /dev/null, and the control socket must not be the data socket's number.
    control = socket.socket(fileno=os.dup(control_fd))
    os.close(control_fd)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.umask(0o077)
    # Pages shared with the executors stay shared: what is alive now is never collected.
    preload(config["modules"])
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Init(control, config).serve()
