"""One bubblewrap and the init in it: starts executors, says how they end, and is ended."""

import array
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from typing import Any, Final

import msgspec

from loopai.sandbox import bubblewrap, cgroups, memory
from loopai.sandbox import limits as limits_
from loopai.sandbox.runtimes import runtime as runtime_

_MESSAGE_BYTES_MAX: Final = 4096
_STDERR_BYTES_MAX: Final = 2000
_FD_SPACE: Final = socket.CMSG_SPACE(2 * array.array("i").itemsize)


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How an executor ended, as init saw it."""

    code: int
    """Negative: the signal that killed it."""
    last_words: str = ""
    """The end of what it wrote to stderr. The program may have written it."""
    out_of_memory: bool = False
    """The kernel says that it killed for lack of memory."""


class EnclosureError(Exception):
    """The cell did not start, or has ended. The message says what it wrote."""


class Enclosure:
    """A started cell without a program. Whoever opens it closes it."""

    def __init__(
        self,
        runtime: runtime_.Runtime,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        stderr: int,
    ) -> None:
        self.runtime = runtime
        self.as_root = False
        self.landlock_abi = 0
        self.broken = False
        self._group: cgroups.Group | None = None
        self._process = process
        self._control = control
        self._stderr = stderr
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._ready: asyncio.Future[int] = self._loop.create_future()
        self._init = -1
        self._init_pid: int | None = None
        self._spawned: dict[int, asyncio.Future[int]] = {}
        self._exits: dict[int, asyncio.Future[Exit]] = {}
        self._loop.add_reader(control.fileno(), self._receive)

    @classmethod
    async def open(
        cls,
        runtime: runtime_.Runtime,
        limits: limits_.Limits,
        groups: cgroups.Cgroups | None = None,
    ) -> "Enclosure":
        """Start bubblewrap and wait for init; what init forks is in a group of *groups*."""
        as_root = bubblewrap.privileged()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        stderr = os.memfd_create("stderr", os.MFD_CLOEXEC)
        try:
            argv = bubblewrap.command(
                bubblewrap.find(), runtime, limits, as_root=as_root, control_fd=theirs.fileno()
            )
            # Not asyncio's subprocess: it forks from a thread under some watchers, and
            # --die-with-parent means the thread. A session of its own keeps Ctrl-C from the cells.
            process = subprocess.Popen(  # noqa: ASYNC220
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(theirs.fileno(),),
                env={},
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(stderr)
            raise
        finally:
            theirs.close()
        enclosure = cls(runtime, process, ours, stderr)
        enclosure.as_root = as_root
        try:
            async with asyncio.timeout(limits.start_ms_max / 1000):
                enclosure.landlock_abi = await enclosure._ready
            if groups is not None:
                await enclosure._confine(groups, limits)
        except TimeoutError:
            await enclosure.close()
            raise EnclosureError("the cell did not start in time") from None
        except BaseException:
            await enclosure.close()
            raise
        return enclosure

    @property
    def pids(self) -> list[int]:
        """Of bubblewrap and of init; executors have their own."""
        if self._init_pid is None or self.broken:
            return [self._process.pid]
        return [self._process.pid, self._init_pid]

    async def _confine(self, groups: cgroups.Cgroups, limits: limits_.Limits) -> None:
        if self._init_pid is None:
            return  # the first executor will say that the cell has ended
        try:
            self._group = groups.group(
                memory_bytes_max=limits.cell_memory_bytes_max, pids_max=limits.cell_processes_max
            )
            # In a thread: a first move waits 10 to 20 ms for the kernel's other processors, and the
            # deadlines of all other cells with it.
            await asyncio.to_thread(self._group.add, self._init_pid)
        except OSError as error:
            raise EnclosureError(f"the cell gets no control group: {error}") from error

    async def spawn(
        self, channel: socket.socket, page: int, *, seconds_max: float
    ) -> tuple[int, asyncio.Future[Exit]]:
        """Fork an executor that owns *channel* and the progress *page*.

        Returns its pidfd, the caller's to close, and its exit to be.
        """
        if self.broken:
            raise EnclosureError("the cell has ended")
        self._number += 1
        number = self._number
        spawned: asyncio.Future[int] = self._loop.create_future()
        ended: asyncio.Future[Exit] = self._loop.create_future()
        self._spawned[number], self._exits[number] = spawned, ended
        user = bubblewrap.user() if self.as_root else 0
        try:
            socket.send_fds(
                self._control,
                [msgspec.msgpack.encode(("spawn", number, user))],
                [channel.fileno(), page],
            )
            async with asyncio.timeout(seconds_max):
                return await spawned, ended
        except BaseException as error:
            # Cancelled after the answer had come: nobody else would end the executor.
            if spawned.done() and not spawned.cancelled() and spawned.exception() is None:
                _kill(spawned.result())
            if isinstance(error, OSError | TimeoutError):
                raise EnclosureError(f"the cell does not start executors: {error!r}") from error
            raise
        finally:
            self._spawned.pop(number, None)

    async def close(self) -> None:
        """Kill everything in the cell and wait until it is gone."""
        self._end("closed")
        if self._init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            os.close(self._init)
            self._init = -1
        # One that is still starting finds the control socket closed and ends by itself. Killing
        # bubblewrap instead would leave init to whoever is process 1.
        # bubblewrap ends when pid 1 has, which the kernel delays until all in the cell are gone.
        # Shielded: a caller that is cancelled must not leave a process behind.
        await asyncio.shield(asyncio.ensure_future(self._reap()))
        if self._group is not None:
            self._group.close()

    async def _reap(self) -> None:
        os.close(self._stderr)
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            self._process.wait()
            return
        gone: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, _settle, gone)
        try:
            async with asyncio.timeout(5):
                await gone
        except TimeoutError:
            self._process.kill()
        finally:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            self._process.wait()

    def _receive(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._control.recvmsg(
                    _MESSAGE_BYTES_MAX, _FD_SPACE, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError as error:
                self._end(str(error))
                return
            fds = array.array("i")
            for _, _, payload in ancillary:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
            if not data:
                self._end("init has ended")
                return
            self._handle(msgspec.msgpack.decode(data), fds[0] if fds else -1)

    def _handle(self, message: Any, fd: int) -> None:  # Any: from init, which is ours
        match message:
            case ["ready", level]:
                self._init = fd
                try:
                    self._init_pid = memory.pid(fd)
                except OSError as error:  # no descriptors left
                    self._end(str(error))
                else:
                    self._ready.set_result(level)
            case ["spawned", number]:
                waiting = self._spawned.get(number)
                if waiting is None or waiting.done():
                    _kill(fd)
                else:
                    waiting.set_result(fd)
            case ["exited", number, code, last_words]:
                ended = self._exits.pop(number, None)
                if ended is not None and not ended.done():
                    killed = int(code) == -signal.SIGKILL
                    ended.set_result(
                        Exit(
                            code=int(code),
                            last_words=last_words.decode(errors="replace"),
                            out_of_memory=killed
                            and self._group is not None
                            and self._group.has_killed(),
                        )
                    )

    def _end(self, reason: str) -> None:
        if self.broken:
            return
        self.broken = True
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        waiting = [self._ready, *self._spawned.values()]
        self._spawned.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(EnclosureError(f"{reason}: {self._complaint()}"))
                future.exception()  # read here: there may be nobody else to
        for ended in self._exits.values():
            if not ended.done():
                ended.set_result(Exit(code=-signal.SIGKILL))
        self._exits.clear()

    def _complaint(self) -> str:
        text = os.pread(self._stderr, 2**20, 0).decode(errors="replace").strip()
        return text[-_STDERR_BYTES_MAX:] or "it wrote nothing"


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
