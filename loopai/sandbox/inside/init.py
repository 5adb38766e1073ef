"""pid 1 of a cell: trusted, makes executors and reaps them. Runs no program.

Messages on its SEQPACKET control socket, in msgpack, file descriptors beside them:

    to the host    ["ready", landlock ABI]         + pidfd of init
                   ["spawned", number]             + pidfd of the executor
                   ["exited", number, exit code, last words]
                   the code in decimal; negative: the signal that killed it
    from the host  ["spawn", number, uid or 0]    + data socket, progress page

The end of the control socket is the end of the cell.

Every cell pays for what is imported here, and before an executor of Deno nothing shares it: with
`typing`, `json`, `enum` (which `signal` and `socket` are made of) and `traceback` init takes twice
as much (ADR 0013).
"""

from __future__ import annotations

import _socket
import ctypes
import importlib
import os
import select
import struct
import sys

from loopai.sandbox.inside import landlock, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    class Runtime(Protocol):
        """What a module `loopai.sandbox.inside.<runtime>` defines under this name."""

        grants: dict[str, int]
        """Landlock's, by path: all that an executor may reach."""

        def __init__(self, config: Mapping[str, Any], machine: str) -> None: ...

        def become(
            self, libc: ctypes.CDLL, *, rules: int, channel: int, page: int, user: int | None
        ) -> None:
            """Turn this process into an executor; comes back only if it could not."""


_MESSAGE_BYTES_MAX = 4096
_PIPE_BYTES = 64 * 1024
_LAST_WORDS_BYTES = 1000
_ONE_FD, _TWO_FDS = struct.Struct("=i"), struct.Struct("=2i")
_SIGINT, _SIG_IGN = 2, 1


class Init:
    def __init__(self, control: _socket.socket, runtime: Runtime) -> None:
        self._control = control
        self._runtime = runtime
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.signal(_SIGINT, ctypes.c_void_p(_SIG_IGN))
        level = landlock.abi(self._libc)
        if level < 1:
            raise OSError("landlock is not available in the cell")
        self._rules = landlock.ruleset(self._libc, level, runtime.grants)
        self._children: dict[int, tuple[int, int, int]] = {}
        """pidfd: (number, pid, read end of its stderr)"""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._libc.malloc_trim(ctypes.c_size_t(0))
        self._tell([wire.text("ready"), wire.integer(level)], os.pidfd_open(os.getpid()))

    def serve(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    self._obey()
                else:
                    self._reap(fd)

    def _obey(self) -> None:
        data, beside, _, _ = self._control.recvmsg(
            _MESSAGE_BYTES_MAX, _socket.CMSG_SPACE(_TWO_FDS.size), _socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            os._exit(0)  # with pid 1 the kernel kills all that is left in the cell
        message: Any = wire.decode(memoryview(data))
        number, user = message[1], message[2]
        ((_, _, fds),) = beside
        channel, page = _TWO_FDS.unpack(fds)
        # Never read while the executor lives: one that fills it hears that it is full.
        words, stderr = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._become_executor(channel, page, stderr, user or None)
        for fd in (channel, page, stderr):
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (number, pid, words)
        self._poll.register(pidfd, select.POLLIN)
        self._tell([wire.text("spawned"), wire.integer(number)], os.dup(pidfd))

    def _become_executor(self, channel: int, page: int, stderr: int, user: int | None) -> None:
        try:
            os.dup2(stderr, 2)
            self._runtime.become(
                self._libc, rules=self._rules, channel=channel, page=page, user=user
            )
        except BaseException:  # noqa: BLE001 (the process ends here)
            sys.excepthook(*sys.exc_info())
        finally:
            # Never back into init's loop, whatever was raised.
            os._exit(70)

    def _reap(self, pidfd: int) -> None:
        number, pid, words = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        try:
            last = os.read(words, _PIPE_BYTES)[-_LAST_WORDS_BYTES:]
        except BlockingIOError:
            last = b""  # not the end: somebody else holds it, such as a fork not yet reaped
        os.close(words)
        code = str(os.waitstatus_to_exitcode(status))
        self._tell(
            [wire.text("exited"), wire.integer(number), wire.text(code), wire.binary(last)], None
        )

    def _tell(self, parts: list[bytes], fd: int | None) -> None:
        data = wire.array(len(parts)) + b"".join(parts)
        beside = []
        if fd is not None:
            beside = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _ONE_FD.pack(fd))]
        try:
            self._control.sendmsg([data], beside)
        except BrokenPipeError:
            os._exit(0)
        finally:
            if fd is not None:
                os.close(fd)


def main(control_fd: int, config: Mapping[str, Any]) -> None:
    """Run a cell as the host's *config* has it, until *control_fd* ends."""
    os.environ.clear()
    sys.argv = [""]
    sys.path.remove("/cell")
    # The lowest fds become /dev/null, and the control socket must not be the data socket's number.
    control = _socket.socket(fileno=os.dup(control_fd))
    os.close(control_fd)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    runtime = importlib.import_module(f"loopai.sandbox.inside.{config['runtime']}")
    Init(control, runtime.Runtime(config, os.uname().machine)).serve()
