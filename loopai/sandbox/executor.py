"""The host's side of one executor: starts it, has it load and run, says of what it died."""

import asyncio
import contextlib
import fcntl
import mmap
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from loopai.sandbox import channel as channel_
from loopai.sandbox import enclosure as enclosure_
from loopai.sandbox import frames, memory
from loopai.sandbox import limits as limits_
from loopai.sandbox import program as program_

_IDLE_CPU: Final = 0.05
"""Part of a processor: the collector and the timers of a runtime need less."""
_LOOK_S_MIN: Final = 1.0
"""For less time than that it is as little as for that."""

_REST_S_MAX: Final = 2.0
"""Collecting the garbage of 256 MiB takes some tenths of a second."""

_NONCES: Final = struct.Struct("<64Q")
# What V8 and Deno write before they end themselves.
_NO_MEMORY: Final = re.compile(r"out of memory|memory allocation of \d+ bytes failed")


class Executor:
    """One hardened process with a program. Not for two batches at once; closed by its owner."""

    def __init__(
        self,
        stream: socket.socket,
        page: mmap.mmap,
        pidfd: int,
        ended: asyncio.Future[enclosure_.Exit],
        limits: limits_.Limits,
    ) -> None:
        self.runs = 0
        self.born = time.monotonic()
        self._used = self.born
        self._runs_rested = -1
        self._pid: int | None = None
        self._looked = self.born
        self._cpu_s = 0.0
        self._runs_seen = -1
        self._channel = channel_.Channel(stream, page, self._kill, limits)
        self._pidfd = pidfd
        self._ended = ended
        self._limits = limits

    @classmethod
    async def open(
        cls, enclosure: enclosure_.Enclosure, program: program_.Program, limits: limits_.Limits
    ) -> "Executor":
        """Start an executor in *enclosure* and load *program*.

        LoadError is the program's fault, EnclosureError is not.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fd = os.memfd_create("progress", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, mmap.PAGESIZE)
            # Sealed: if the executor could shrink it, reading it would kill the host with SIGBUS.
            seals = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW of linux/fcntl.h
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            page = mmap.mmap(fd, mmap.PAGESIZE)
            try:
                pidfd, ended = await enclosure.spawn(
                    theirs, fd, seconds_max=limits.exit_ms_max / 1000
                )
            except BaseException:
                page.close()
                raise
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(fd)
        executor = cls(ours, page, pidfd, ended, limits)
        try:
            await executor._wait_until_hardened()
            await executor._load(program)
        except BaseException:
            executor.close()
            raise
        return executor

    @property
    def usable(self) -> bool:
        """Whether it may run another batch."""
        return self._channel.usable

    @property
    def pid(self) -> int | None:
        """None once it has ended."""
        if not self.usable:
            return None
        if self._pid is None:
            self._pid = memory.pid(self._pidfd)
        return self._pid

    def has_run_idle(self) -> bool:
        """Whether it used the processor since it was last asked, and was given nothing to do."""
        pid = self.pid
        cpu_s = self._cpu_s if pid is None else memory.cpu_s(pid)
        now = time.monotonic()
        allowed_s = _IDLE_CPU * max(_LOOK_S_MIN, now - self._looked)
        before, seen = self._cpu_s, self._runs_seen
        self._cpu_s, self._runs_seen, self._looked = cpu_s, self.runs, now
        return seen == self.runs and cpu_s - before > allowed_s

    def may_rest(self) -> bool:
        """Whether it has had nothing to do for long enough, and has not rested since it had."""
        idle_s = time.monotonic() - self._used
        return self.runs != self._runs_rested and idle_s >= self._limits.rest_s

    async def rest(self) -> None:
        """Have it give back the memory that it does not need; one that fails to is ended."""
        self._runs_rested = self.runs
        nonce = next(_nonces)
        run = await self._channel.exchange(
            frames.encode_rest(nonce), nonce, (_REST_S_MAX,), answers=0
        )
        # The time that this took is not the program's.
        self._runs_seen = -1
        if run.end != "done":
            self.close()

    async def run(self, inputs: Sequence[bytes], seconds: Sequence[float]) -> channel_.Run:
        """Run the program on *inputs*, each for at most its *seconds*."""
        self.runs += len(inputs)
        nonce = next(_nonces)
        run = await self._channel.exchange(
            frames.encode_run(nonce, inputs, seconds), nonce, seconds
        )
        self._used = time.monotonic()
        if run.end != "died":
            return run
        end, detail = await self._epitaph()
        return msgspec.structs.replace(run, end=end, detail=detail)

    def recall(self, index: int) -> None:
        """Have item *index* of the batch that is running end once it runs; see Channel.recall."""
        self._channel.recall(index)

    def close(self) -> None:
        """Kill the process; does not wait for its end, which init reports."""
        if self._pidfd < 0:
            return
        self._kill()
        self._channel.close()
        os.close(self._pidfd)
        self._pidfd = -1

    async def _wait_until_hardened(self) -> None:
        """An empty frame says so. Before it, nothing of the program has been near the process."""
        run = await self._channel.exchange(b"", 0, (self._limits.start_ms_max / 1000,), answers=0)
        if run.end != "done":
            _, reason = await self._epitaph()
            raise enclosure_.EnclosureError(f"an executor does not start: {reason}")

    async def _load(self, program: program_.Program) -> None:
        nonce = next(_nonces)
        seconds = (self._limits.load_ms_max / 1000,)
        late = f"loading took longer than {self._limits.load_ms_max:g} ms"
        text = _encoded(program.code, self._limits.code_bytes_max)
        frame = frames.encode_load(nonce, text, seconds[0], program.language)
        run = await self._channel.exchange(frame, nonce, seconds)
        if run.end == "died":
            _, detail = await self._epitaph()
            hint = "; it may be nested too deeply" if "SIGSEGV" in detail else ""
            raise program_.LoadError(f"the program ended its process: {detail}{hint}")
        if run.end == "timeout":
            raise program_.LoadError(late)
        if run.end == "tampered":
            raise program_.LoadError(f"the program wrote to the result channel: {run.detail}")
        (reply,) = run.replies
        if frames.KINDS[reply.status] == "timeout":
            where = f"line {reply.line}: " if reply.line else ""
            raise program_.LoadError(where + late, line=reply.line or None)
        if reply.status != 0:
            raise program_.LoadError(_described(reply), line=reply.line or None)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def _epitaph(self) -> tuple[channel_.End, str]:
        """Of what it died."""
        try:
            async with asyncio.timeout(self._limits.exit_ms_max / 1000):
                ended = await asyncio.shield(self._ended)
        except TimeoutError:
            return "died", "it does not end"
        if ended.out_of_memory or _NO_MEMORY.search(ended.last_words):
            return "out_of_memory", "it ran out of memory"
        if ended.code >= 0:
            return "died", f"it exited with status {ended.code}"
        try:
            return "died", f"it was killed by {signal.Signals(-ended.code).name}"
        except ValueError:
            return "died", f"it was killed by signal {-ended.code}"


def _unguessable() -> Iterator[int]:
    """Of 64 bits each; many at a time, since every request to the kernel takes half a µs."""
    while True:
        yield from _NONCES.unpack(os.urandom(_NONCES.size))


_nonces = _unguessable()


def _encoded(code: str, bytes_max: int) -> bytes:
    try:
        text = code.encode()
    except UnicodeEncodeError as error:
        raise program_.LoadError("the program is not UTF-8 text") from error
    if len(text) > bytes_max:
        raise program_.LoadError(f"the program exceeds {bytes_max} bytes")
    return text


def _described(reply: frames.Reply) -> str:
    if reply.error_type in {"", "LoadError", *frames.KINDS}:
        return reply.message or "the program cannot be loaded"
    return f"{reply.message} ({reply.error_type})" if reply.message else reply.error_type
