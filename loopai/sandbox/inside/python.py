"""The executor of programs in Python: hardens itself for good, then loads one and runs its calls.

Everything before `serve` runs before a byte of the program is read. From then on this process is
the program's: nothing that it sends is believed without a check by the host.
"""

import ctypes
import functools
import gc
import importlib
import json
import math
import mmap
import os
import resource
import signal
import struct
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopai.sandbox.inside import hardening, landlock, result, seccomp, surroundings, wire

_RECEIVE_BYTES = 64 * 1024
_RESERVE_BYTES = 4 * 1024 * 1024

DATA_FD = 3

_scan = json.decoder.JSONDecoder().scan_once  # type: ignore[attr-defined]  # not in typeshed


class Deadline(BaseException):
    """The soft deadline of the running call has passed. `except Exception` must not catch it."""


class Runtime:
    """Made once by init, whose modules every executor shares; `become` runs in a fresh fork."""

    def __init__(self, config: Mapping[str, Any], machine: str) -> None:
        self._config = config
        self._lines = seccomp.compile_filter(machine, seccomp.PYTHON)
        limits = config["limits"]
        self._bounds = {
            **hardening.NOTHING,
            resource.RLIMIT_AS: limits["memory_bytes_max"],
            resource.RLIMIT_STACK: limits["stack_bytes_max"],
            resource.RLIMIT_NOFILE: limits["files_max"],
        }
        self.grants = {
            os.path.dirname(os.__file__): landlock.READ,  # noqa: PTH120 (pathlib costs an import)
            "/dev/null": landlock.READ | landlock.WRITE,
            "/dev/urandom": landlock.READ,
        }
        preload(config["modules"])
        # Pages shared with the executors stay shared: what is alive now is never collected.
        gc.collect()
        gc.freeze()

    def become(
        self, libc: ctypes.CDLL, *, rules: int, channel: int, page: int, user: int | None
    ) -> None:
        mapped = mmap.mmap(page, mmap.PAGESIZE)
        os.dup2(channel, DATA_FD)
        hardening.harden(
            libc,
            rules=rules,
            bounds=self._bounds,
            user=user,
            fds=DATA_FD + 1,
            lines=self._lines,
        )
        Executor(self._config, mapped).serve()


def preload(modules: Sequence[str]) -> None:
    """Import all that a program may: afterwards nothing can be mapped executable."""
    for name in modules:
        importlib.import_module(name)
    # Imported on first use by modules that a program may import.
    for name in ("_strptime", "encodings.idna", "encodings.latin_1", "encodings.utf_16", "locale"):
        importlib.import_module(name)
    result.encode([{"warm": 1.5}], 100)


class Executor:
    """Reads frames from the data socket and answers each with the results of its items."""

    def __init__(self, config: Mapping[str, Any], page: mmap.mmap) -> None:
        limits = config["limits"]
        self._allowed = frozenset(config["modules"])
        self._output_bytes_max: int = limits["output_bytes_max"]
        self._message_bytes_max: int = limits["message_bytes_max"]
        self._flush_bytes: int = limits["flush_bytes"]
        self._flush_s: float = limits["flush_ms"] / 1000
        self._request_bytes_max: int = limits["request_bytes_max"]
        self._page = page
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._capture = surroundings.Capture(limits["stdout_bytes_max"])
        self._run: Callable[[object], object] | None = None
        self._text = ""
        self._armed = False
        self._deadline = self._alarm = math.inf
        """When the running call must end, and when the timer strikes (monotonic, s)."""
        # Never touched, so it costs address space only: room to say that there is no more. The host
        # replaces an executor that has said so.
        self._reserve = mmap.mmap(-1, _RESERVE_BYTES, flags=mmap.MAP_PRIVATE)

    def serve(self) -> None:
        signal.signal(signal.SIGALRM, self._on_alarm)
        sys.stdout = sys.stderr = self._capture
        self._send(0, [])  # hardened, and ready for a program
        while True:
            nonce, request = self._receive()
            if request[0] == wire.LOAD:
                self._send(nonce, [self._load(nonce, bytes(request[1]), float(request[2]))])
            else:
                self._batch(nonce, request[1], request[2])

    def _batch(self, nonce: int, inputs: Sequence[bytes], seconds: Sequence[float]) -> None:
        results: list[bytes] = []
        size = 0
        page, pack, now = self._page, wire.PAGE.pack_into, time.monotonic
        flushed = now()
        for index, data in enumerate(inputs):
            started = now()
            if results and (size > self._flush_bytes or started - flushed > self._flush_s):
                self._send(nonce, results)
                results, size, flushed = [], 0, started
            pack(page, 0, nonce, index, started)
            try:
                reply = self._call(data, seconds[index], started)
            except Deadline:  # it struck while another failure was being described
                reply = _failure(wire.TIMEOUT, 0, "timeout", "timed out", "", 0, "")
            results.append(reply)
            size += len(reply)
        self._send(nonce, results)

    def _call(self, data: bytes, seconds: float, started: float) -> bytes:
        try:
            # Armed before the timer is looked at: one that strikes in between is set anew.
            self._deadline = deadline = started + seconds
            self._armed = True
            if deadline < self._alarm:
                # A timer that strikes earlier may stay: the handler sees that it is not time yet
                # and sets it anew. So most calls cost no system call for it.
                self._alarm = deadline
                signal.setitimer(signal.ITIMER_REAL, seconds)
            value = self._run(_loads(str(data, "utf-8")))  # type: ignore[misc]  # the host loads first
            output = result.encode(value, self._output_bytes_max)
            self._armed = False
        except BaseException as error:  # noqa: BLE001 (SystemExit and the like are the program's too)
            if type(error) is MemoryError:
                self._reserve.close()
            return self._failed(error, started)
        elapsed_us = int((time.monotonic() - started) * 1e6)
        reply = wire.integer(elapsed_us) + wire.binary(output)
        if self._capture.parts:
            # The long form has type and message, empty here, before stdout.
            return b"\x96\x00" + reply + b"\xa0\xa0" + wire.text(self._capture.take())
        return b"\x93\x00" + reply

    def _load(self, nonce: int, code: bytes, seconds: float) -> bytes:
        started = time.monotonic()
        self._deadline = self._alarm = started + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)
        wire.PAGE.pack_into(self._page, 0, nonce, 0, started)
        try:
            self._armed = True
            self._text = str(code, "utf-8")
            self._run = surroundings.load(self._text, self._allowed)
            self._armed = False
        except BaseException as error:  # noqa: BLE001 (as in _call)
            reply = self._failed(error, started)
        else:
            stdout = wire.text(self._capture.take())
            reply = b"\x96\x00" + wire.integer(0) + b"\xc4\x00\xa0\xa0" + stdout
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._alarm = math.inf
        return reply

    def _failed(self, error: BaseException, started: float) -> bytes:
        """Still armed: `__str__` of an exception may hang."""
        # First what is known without running code of the program or taking memory.
        status, kind, message = wire.ERROR, result.name_of(error), ""
        line, trace = None, ""
        length = self._message_bytes_max // 4  # a character takes four bytes of UTF-8 at most
        is_a = functools.partial(issubclass, type(error))
        if is_a(Deadline):
            status, kind, message = wire.TIMEOUT, "timeout", "timed out"
        elif is_a(MemoryError):
            status, kind, message = wire.OUT_OF_MEMORY, "out_of_memory", "out of memory"
        elif is_a(result.TooLargeError):
            status, kind = wire.OUTPUT_TOO_LARGE, "output_too_large"
            message = f"the result exceeds {self._output_bytes_max} bytes"
        elif is_a(result.InvalidError):
            status, kind, message = wire.INVALID_RESULT, "invalid_result", str(error)
        try:
            line = result.line_of(error)
            if status == wire.OUT_OF_MEMORY:
                # Its frames hold all that the program had, and the rest needs memory.
                BaseException.with_traceback(error, None)
            message = message or "the exception could not be described"
            if status == wire.ERROR:
                message = result.message_of(error)
            trace = result.traceback_of(error, self._text, f"{kind}: {message}"[:length], length)
        except Deadline:
            status, kind, message = wire.TIMEOUT, "timeout", "timed out describing an exception"
        except BaseException:  # noqa: BLE001, S110 (what was assumed above stands)
            pass
        self._armed = False
        if line is not None:
            message = f"line {line}: {message}" if message else f"line {line}"
        elapsed_us = int((time.monotonic() - started) * 1e6)
        stdout = self._capture.take() if self._capture.parts else ""
        return _failure(status, elapsed_us, kind[:100], message[:length], stdout, line or 0, trace)

    def _on_alarm(self, _number: int, _frame: types.FrameType | None) -> None:
        self._alarm = math.inf
        if not self._armed:
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._alarm = self._deadline
            signal.setitimer(signal.ITIMER_REAL, left)
        else:
            self._armed = False
            raise Deadline

    def _receive(self) -> tuple[int, Any]:  # Any: what the host sent, of known form
        head = memoryview(self._buffer)
        filled = _read(head)
        while filled < wire.HEADER.size:
            filled += _read(head[filled:])
        size, nonce = wire.HEADER.unpack_from(head)
        if size > self._request_bytes_max:
            raise wire.WireError("request too large")
        total = wire.HEADER.size + size
        if total <= len(head):
            frame = head
        else:
            frame = memoryview(bytearray(total))
            frame[:filled] = head[:filled]
        while filled < total:
            filled += _read(frame[filled:total])
        return nonce, wire.decode(frame[wire.HEADER.size : total])

    def _send(self, nonce: int, results: list[bytes]) -> None:
        body = wire.array(len(results)) + b"".join(results)
        frame = memoryview(wire.HEADER.pack(len(body), nonce) + body)
        while frame:
            frame = frame[os.write(DATA_FD, frame) :]


def _loads(text: str) -> object:
    """As json.loads, a µs faster where no white space is around the value."""
    try:
        value, end = _scan(text, 0)
    except (StopIteration, ValueError):
        end = -1
    return value if end == len(text) else json.loads(text)


def _read(into: memoryview) -> int:
    size = os.readv(DATA_FD, [into])
    if size == 0:
        os._exit(0)  # the host has closed us
    return size


def _failure(  # noqa: PLR0917 (in the order of the wire)
    status: int, elapsed_us: int, kind: str, message: str, stdout: str, line: int, trace: str
) -> bytes:
    return (
        struct.pack("BB", 0x98, status)
        + wire.integer(elapsed_us)
        + b"\xc4\x00"
        + wire.text(kind)
        + wire.text(message)
        + wire.text(stdout)
        + wire.integer(line)
        + wire.text(trace)
    )
