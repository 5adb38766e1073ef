"""The frames between the host and one executor, and the hard deadline of what it runs."""

import asyncio
import contextlib
import itertools
import mmap
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from loopai.sandbox import frames
from loopai.sandbox import limits as limits_

End = Literal["done", "timeout", "cancelled", "died", "tampered", "out_of_memory"]

_RECALL_LOOK_S: Final = 0.02
"""How often we look whether a recalled item, which had not begun, has by now."""


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a batch went: the results of its first items, and what stopped the rest."""

    replies: list[frames.Reply]
    end: End
    culprit: int | None = None
    """Index of the item that was running; None where this batch had not begun. Exact for a timeout
    and a cancellation; otherwise the executor may have gone on for a while, so exact only in a
    batch of one."""
    elapsed_ms: float = 0.0
    """How long the culprit had been running."""
    wall_ms: float
    """How long all of it took, by the host's clock."""
    detail: str = ""


class Channel:
    """One frame at a time there, its results back. Nothing that comes back is believed.

    *kill* ends the executor, after which the channel is not `usable`. Closed by its owner.
    """

    def __init__(
        self,
        stream: socket.socket,
        page: mmap.mmap,
        kill: Callable[[], None],
        limits: limits_.Limits,
    ) -> None:
        self.usable = True
        self._stream = stream
        self._page = page
        self._end_process = kill
        self._limits = limits
        self._grace_s = limits.grace_ms / 1000
        self._text_bytes_max = limits.text_bytes_max
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
        self._recalled: set[int] = set()
        self._ended: tuple[int, float] | None = None
        self._loop.add_reader(stream.fileno(), self._receive)

    async def exchange(
        self, frame: bytes, nonce: int, seconds: Sequence[float], *, answers: int | None = None
    ) -> Run:
        """Send *frame* and wait until its results are in or the process is beyond use.

        One answer for each of *seconds*, unless *answers* says otherwise.
        """
        self._former, self._nonce = self._nonce, nonce
        end = await self._exchange(frame, seconds, len(seconds) if answers is None else answers)
        now = time.monotonic()
        wall_ms = (now - self._begun) * 1000
        if end == "done":
            return Run(replies=self._replies, end=end, wall_ms=wall_ms)
        running = self._ended if end in {"timeout", "cancelled"} else self._running(now)
        if self._stale:
            running = None
        return Run(
            replies=self._replies,
            end=end,
            culprit=None if running is None else running[0],
            elapsed_ms=0.0 if running is None else (now - running[1]) * 1000,
            wall_ms=wall_ms,
            detail=self._detail,
        )

    def recall(self, index: int) -> None:
        """Have item *index* of the frame that is under way end as soon as it is the one that runs.

        One that has ended by then keeps its result. Nothing where no frame is under way.
        """
        if self._future is None or self._future.done():
            return
        self._recalled.add(index)
        self._look_s = min(self._look_s, _RECALL_LOOK_S)
        self._look_in(0)

    def close(self) -> None:
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
        if self._future is not None and not self._future.done():
            self._finish("died")
        self._loop.remove_reader(self._stream.fileno())
        self._stream.close()
        self._page.close()

    async def _exchange(self, frame: bytes, seconds: Sequence[float], answers: int) -> End:
        self._replies = []
        self._begun = time.monotonic()
        if not self.usable:
            self._detail = "it had ended before"
            return "died"
        self._recalled = set()
        self._seconds = seconds
        self._sums = list(itertools.accumulate(seconds))
        self._answers = answers
        self._future = future = self._loop.create_future()
        # A later item may have less time than the first: look when the shortest could be over.
        self._look_s = min(seconds) + self._grace_s
        if self._timer is None or self._begun + self._look_s < self._look_at:
            # One that strikes earlier may stay, that of the batch before: it sets the next.
            self._look_in(self._look_s)
        try:
            sent = self._send(frame)
            if sent < len(frame):
                with contextlib.suppress(OSError):
                    await self._loop.sock_sendall(self._stream, memoryview(frame)[sent:])
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

    def _send(self, frame: bytes) -> int:
        """How much of it went at once."""
        try:
            return self._stream.send(frame)
        except BlockingIOError:
            return 0
        except OSError:
            return len(frame)  # it has died; the reader says so

    def _receive(self) -> None:
        try:
            size = self._stream.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if size == 0:
            self._loop.remove_reader(self._stream.fileno())
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
            replies = frames.decode(
                data[used + frames.HEADER.size : end], text_bytes_max=self._text_bytes_max
            )
            count = len(self._replies) + len(replies)
            if bool(replies) != bool(self._answers) or count > self._answers:
                raise frames.TamperError("a frame with the wrong number of results")
            self._replies += replies
            used = end
            if len(self._replies) == self._answers:
                self._finish("done")
                break
        return used

    def _watch(self) -> None:
        """A recall, or the hard deadline of the running item or of an earlier one, has come."""
        self._timer = None
        if self._future is None or self._future.done():
            return
        # What has been answered in time counts, even if this loop was too busy to read it.
        self._receive()
        if self._future.done():
            return
        now = time.monotonic()
        running = self._running(now)
        recalled = self._unwanted(running) if self._recalled else None
        if recalled is not None:
            self._end_running(recalled, "cancelled")
            return
        left = self._deadline(running) - now
        if left > 0:
            self._look_in(min(left, self._look_s))
        else:
            self._end_running(running, "timeout")

    def _end_running(self, running: tuple[int, float] | None, end: End) -> None:
        # Remembered before the kill: the executor may just be going on to the next item.
        self._ended = running
        self._kill()
        self._finish(end)

    def _unwanted(self, running: tuple[int, float] | None) -> tuple[int, float] | None:
        """What runs, if it is recalled.

        A program that lies about it delays the end of its own item, or brings forward that of
        another one that nobody wants either. Alone in its frame an item cannot even do that.
        """
        if running is None and len(self._seconds) == 1:
            running = (0, self._begun)
        return running if running is not None and running[0] in self._recalled else None

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
        self._end_process()
