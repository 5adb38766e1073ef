"""The host's side of one executor: sends batches, reads results, keeps the hard deadline."""

import asyncio
import contextlib
import fcntl
import itertools
import mmap
import os
import random
import re
import signal
import socket
import time
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from loopai.sandbox import enclosure as enclosure_
from loopai.sandbox import frames, memory
from loopai.sandbox import limits as limits_
from loopai.sandbox import program as program_

End = Literal["done", "timeout", "died", "tampered", "out_of_memory"]

_nonces = random.SystemRandom()
# What V8 and Deno write before they end themselves.
_NO_MEMORY: Final = re.compile(r"out of memory|memory allocation of \d+ bytes failed")


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a batch went: the results of its first items, and what stopped the rest."""

    replies: list[frames.Reply]
    end: End
    culprit: int | None = None
    """Index of the item that was running; None where this batch had not begun. Exact for a timeout;
    otherwise the executor may have gone on for a while, so exact only in a batch of one."""
    elapsed_ms: float = 0.0
    """How long the culprit had been running."""
    wall_ms: float
    """How long all of it took, by the host's clock."""
    detail: str = ""


class Executor:
    """One hardened process with a program. Not for two batches at once; closed by its owner."""

    def __init__(
        self,
        channel: socket.socket,
        page: mmap.mmap,
        pidfd: int,
        ended: asyncio.Future[enclosure_.Exit],
        limits: limits_.Limits,
    ) -> None:
        self.usable = True
        self.runs = 0
        self.born = time.monotonic()
        self._channel = channel
        self._page = page
        self._pidfd = pidfd
        self._ended = ended
        self._limits = limits
        self._grace_s = limits.grace_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(64 * limits_.KIB)
        self._partial = bytearray()
        self._future: asyncio.Future[End] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._nonce = self._former = 0
        self._stale = False
        self._seconds: Sequence[float] = ()
        self._sums: Sequence[float] = ()
        self._begun = 0.0
        self._look_s = self._look_at = 0.0
        self._replies: list[frames.Reply] = []
        self._answers = 0
        self._detail = ""
        self._overdue: tuple[int, float] | None = None
        self._loop.add_reader(channel.fileno(), self._receive)

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

    async def run(self, inputs: Sequence[bytes], seconds: Sequence[float]) -> Run:
        """Run the program on *inputs*, each for at most its *seconds*."""
        self.runs += len(inputs)
        self._former, self._nonce = self._nonce, _nonces.getrandbits(64)
        frame = frames.encode_run(self._nonce, inputs, seconds)
        end = await self._exchange(frame, seconds)
        now = time.monotonic()
        wall_ms = (now - self._begun) * 1000
        if end == "done":
            return Run(replies=self._replies, end=end, wall_ms=wall_ms)
        running = self._overdue if end == "timeout" else self._running(now)
        if self._stale:
            running = None
        if end == "died":
            end, self._detail = await self._epitaph()
        return Run(
            replies=self._replies,
            end=end,
            culprit=None if running is None else running[0],
            elapsed_ms=0.0 if running is None else (now - running[1]) * 1000,
            wall_ms=wall_ms,
            detail=self._detail,
        )

    def close(self) -> None:
        """Kill the process; does not wait for its end, which init reports."""
        if self._pidfd < 0:
            return
        self._kill()
        if self._timer is not None:
            self._timer.cancel()
        if self._future is not None and not self._future.done():
            self._finish("died")
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        self._page.close()
        os.close(self._pidfd)
        self._pidfd = -1

    async def _wait_until_hardened(self) -> None:
        """An empty frame says so. Before it, nothing of the program has been near the process."""
        end = await self._exchange(b"", (self._limits.start_ms_max / 1000,), answers=0)
        if end != "done":
            _, reason = await self._epitaph()
            raise enclosure_.EnclosureError(f"an executor does not start: {reason}")

    async def _load(self, program: program_.Program) -> None:
        self._nonce = nonce = _nonces.getrandbits(64)
        seconds = (self._limits.load_ms_max / 1000,)
        text = _encoded(program.code, self._limits.code_bytes_max)
        frame = frames.encode_load(nonce, text, seconds[0], program.language)
        end = await self._exchange(frame, seconds)
        if end == "died":
            _, detail = await self._epitaph()
            raise program_.LoadError(f"the program ended its process: {detail}")
        if end == "timeout":
            raise program_.LoadError(f"loading took longer than {self._limits.load_ms_max:g} ms")
        if end == "tampered":
            raise program_.LoadError(f"the program wrote to the result channel: {self._detail}")
        (reply,) = self._replies
        if frames.KINDS[reply.status] == "timeout":
            where = f"line {reply.line}: " if reply.line else ""
            reason = f"{where}loading took longer than {self._limits.load_ms_max:g} ms"
            raise program_.LoadError(reason, line=reply.line or None)
        if reply.status != 0:
            raise program_.LoadError(_described(reply), line=reply.line or None)

    async def _exchange(
        self, frame: bytes, seconds: Sequence[float], *, answers: int | None = None
    ) -> End:
        """Send *frame* and wait until its results are in or the process is beyond use.

        One answer for each of *seconds*, unless *answers* says otherwise.
        """
        if not self.usable:
            self._replies, self._detail = [], "it had ended before"
            return "died"
        self._seconds = seconds
        self._sums = list(itertools.accumulate(seconds))
        self._replies = []
        self._answers = len(seconds) if answers is None else answers
        self._future = future = self._loop.create_future()
        self._begun = time.monotonic()
        # A later item may have less time than the first: look when the shortest could be over.
        self._look_s = min(seconds) + self._grace_s
        if self._timer is None or self._begun + self._look_s < self._look_at:
            # One that strikes earlier may stay, that of the batch before: it sets the next.
            self._look_in(self._look_s)
        try:
            await self._send(frame)
            end: End = await future
        except BaseException:
            # The caller has gone in the middle of a batch: what comes now belongs to nobody.
            self._kill()
            raise
        finally:
            self._future = None
        return end

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = time.monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._watch)

    async def _send(self, frame: bytes) -> None:
        try:
            sent = self._channel.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has died; the reader says so
        if sent < len(frame):
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(self._channel, memoryview(frame)[sent:])

    def _receive(self) -> None:
        try:
            size = self._channel.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if size == 0:
            self._loop.remove_reader(self._channel.fileno())
            # It may have closed the socket and live on; one that is ending keeps its exit code.
            self._kill()
            self._finish("died")
            return
        try:
            self._accept(memoryview(self._buffer)[:size])
        except frames.TamperError as error:
            self._detail = str(error)
            self._kill()
            self._finish("tampered")

    def _accept(self, data: memoryview) -> None:
        if self._future is None or self._future.done():
            raise frames.TamperError("bytes that nobody asked for")
        if self._partial:
            self._partial += data
            used = self._take(memoryview(self._partial))
            del self._partial[:used]
        else:
            used = self._take(data)
            self._partial += data[used:]
        if self._partial and self._future.done():
            raise frames.TamperError("bytes after the last result")

    def _take(self, data: memoryview) -> int:
        """Take the whole frames at the front of *data*; returns how many bytes they were."""
        used = 0
        while len(data) - used >= frames.HEADER.size:
            size, nonce = frames.HEADER.unpack_from(data, used)
            if nonce != self._nonce:
                # Of the batch before: its item had forged its answer and went on. Not this one's
                # doing, whatever the progress page says by now.
                self._stale = nonce == self._former
                raise frames.TamperError("a frame with the wrong nonce")
            if size > self._limits.reply_bytes_max:
                raise frames.TamperError("a frame beyond reply_bytes_max")
            end = used + frames.HEADER.size + size
            if end > len(data):
                break
            replies = frames.decode(data[used + frames.HEADER.size : end])
            self._replies += replies
            used = end
            if bool(replies) != bool(self._answers) or len(self._replies) > self._answers:
                raise frames.TamperError("a frame with the wrong number of results")
            if len(self._replies) == self._answers:
                self._finish("done")
                break
        return used

    def _watch(self) -> None:
        """The hard deadline of the running item has come, or that of an earlier one."""
        self._timer = None
        if self._future is None or self._future.done():
            return
        # What has been answered in time counts, even if this loop was too busy to read it.
        self._receive()
        if self._future.done():
            return
        now = time.monotonic()
        running = self._running(now)
        left = self._deadline(running) - now
        if left > 0:
            self._look_in(min(left, self._look_s))
            return
        # Remembered before the kill: the executor may just be going on to the next item.
        self._overdue = running
        self._kill()
        self._finish("timeout")

    def _deadline(self, running: tuple[int, float] | None) -> float:
        """When the running item must have ended, however the executor moves the progress page."""
        index = len(self._replies) if running is None else running[0]
        bound = self._begun + self._sums[index] + self._grace_s * (index + 1)
        if running is None:
            return bound
        return min(running[1] + self._seconds[index] + self._grace_s, bound)

    def _running(self, now: float) -> tuple[int, float] | None:
        """Index and start of the running item, as far as what the executor wrote can be true."""
        nonce, index, started = frames.PAGE.unpack_from(self._page)
        if nonce != self._nonce or not len(self._replies) <= index < len(self._seconds):
            return None
        return index, started if self._begun <= started <= now else self._begun

    def _finish(self, end: End) -> None:
        if end != "done":
            self.usable = False
        if self._future is not None and not self._future.done():
            self._future.set_result(end)

    def _kill(self) -> None:
        self.usable = False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        """None once it has ended."""
        return memory.pid(self._pidfd) if self._pidfd >= 0 else None

    async def _epitaph(self) -> tuple[End, str]:
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


def _encoded(code: str, bytes_max: int) -> bytes:
    try:
        text = code.encode()
    except UnicodeEncodeError as error:
        raise program_.LoadError("the program is not UTF-8 text") from error
    if len(text) > bytes_max:
        raise program_.LoadError(f"the program exceeds {bytes_max} bytes")
    return text


def _described(reply: frames.Reply) -> str:
    if not reply.error_type:
        return reply.message or "the program cannot be loaded"
    return f"{reply.message} ({reply.error_type})" if reply.message else reply.error_type
