"""`python -m bench.offered ORDER`: requests at a rate, whether earlier ones are answered or not.

An open loop: every request has its moment, and its latency counts from there, however late it was
sent. A process of its own; ORDER is JSON, and so is the Load that it prints.
"""

import array
import asyncio
import collections
import gc
import select
import socket
import sys
import time
from typing import Final

import msgspec

from bench import caller

TICK_S: Final = 0.001
"""How long it waits for answers before it looks whether requests are due."""
EVENTS_MAX: Final = 512
"""Answers read before it looks again."""
LAST_S_MAX: Final = 40.0
"""How long it waits for the last answers; the product gives up after 30 s."""
START_S_MAX: Final = 30.0
SLICES: Final = 12
"""Parts of the whole time that answers are counted in."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    rate: float
    """Requests a second."""
    seconds: float
    connections: int
    """A request that comes when none of them is free waits until one is."""


class Load(msgspec.Struct, kw_only=True):
    """What came of the requests."""

    due: int = 0
    sent: int = 0
    """While the load lasted."""
    answered: int = 0
    """With 200."""
    refused: int = 0
    """With 503 and Retry-After."""
    bare: int = 0
    """With 503 and no Retry-After."""
    other: int = 0
    """With another status."""
    unsure: int = 0
    """Of all that is not 200: told an execution's id, because it may still have run."""
    broken: int = 0
    """The connection ended first."""
    silent: int = 0
    """Not answered at all."""
    p50_s: float = 0.0
    """Of those answered with 200, as is p99."""
    p99_s: float = 0.0
    cpu_s: float = 0.0
    """Of this process, while the load lasted."""
    answered_by_slice: list[int] = []
    refused_by_slice: list[int] = []


class _Connection:
    __slots__ = ("due", "received", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.due = 0.0
        self.received = b""


class _Loop:
    """The load of one order, on connections that are opened before it begins."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._request = caller.request(order.host)
        self._poller = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: collections.deque[_Connection] = collections.deque()
        self._began = 0.0
        self._latencies = array.array("d")
        self._load = Load(answered_by_slice=[0] * SLICES, refused_by_slice=[0] * SLICES)

    def run(self) -> Load:
        for _ in range(self._order.connections):
            self._connect()
        gc.freeze()
        load, order = self._load, self._order
        load.due = int(order.rate * order.seconds)
        cpu_s, self._began = time.process_time(), time.perf_counter()
        while (now := time.perf_counter() - self._began) < order.seconds:
            self._send(min(load.due, int(now * order.rate)))
            self._receive()
        load.cpu_s = time.process_time() - cpu_s
        end = now + LAST_S_MAX
        while len(self._idle) < len(self._open) and time.perf_counter() - self._began < end:
            self._receive()
        load.silent = len(self._open) - len(self._idle)
        self._latencies = array.array("d", sorted(self._latencies))
        if count := len(self._latencies):
            load.p50_s = self._latencies[count // 2]
            load.p99_s = self._latencies[int(count * 0.99)]
        return load

    def _connect(self) -> None:
        opened = socket.create_connection((self._order.host, self._order.port), START_S_MAX)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        connection = self._open[opened.fileno()] = _Connection(opened)
        self._poller.register(opened, select.EPOLLIN)
        self._idle.append(connection)

    def _send(self, due: int) -> None:
        """Send until *due* have been sent in all, as far as connections are free."""
        load, idle, rate = self._load, self._idle, self._order.rate
        while load.sent < due and idle:
            connection = idle.popleft()
            connection.due = load.sent / rate
            load.sent += 1
            try:
                connection.socket.send(self._request)
            except OSError:
                self._broke(connection)

    def _receive(self) -> None:
        for descriptor, _ in self._poller.poll(TICK_S, EVENTS_MAX):
            connection = self._open[descriptor]
            try:
                received = connection.socket.recv(65_536)
            except OSError:
                received = b""
            if not received:
                self._broke(connection)
            elif is_whole(whole := connection.received + received):
                connection.received = b""
                self._answered(connection, whole)
                self._idle.append(connection)
            else:
                connection.received = whole

    def _answered(self, connection: _Connection, answer: bytes) -> None:
        load = self._load
        now = time.perf_counter() - self._began
        part = min(SLICES, int(now / self._order.seconds * SLICES))
        status = answer[9:12]
        if status == b"200":
            load.answered += 1
            self._latencies.append(now - connection.due)
            if part < SLICES:
                load.answered_by_slice[part] += 1
            return
        load.unsure += b'"execution_id"' in answer
        if status != b"503":
            load.other += 1
        elif b"\nretry-after:" in answer.partition(b"\r\n\r\n")[0].lower():
            load.refused += 1
            if part < SLICES:
                load.refused_by_slice[part] += 1
        else:
            load.bare += 1

    def _broke(self, connection: _Connection) -> None:
        """It is not opened again: there are more of them."""
        del self._open[connection.socket.fileno()]
        connection.socket.close()
        if connection in self._idle:
            self._idle.remove(connection)
        else:
            self._load.broken += 1


def is_whole(answer: bytes) -> bool:
    """Whether *answer* has all of its body; its length is always told."""
    head, found, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return bool(found) and len(body) >= int(length)


async def run(url: str, rate: float, seconds: float, connections: int) -> Load:
    """Offer *url* so much in another process."""
    host, _, port = url.removeprefix("http://").partition(":")
    order = Order(host=host, port=int(port), rate=rate, seconds=seconds, connections=connections)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.offered", msgspec.json.encode(order).decode()),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_S_MAX + seconds + LAST_S_MAX + START_S_MAX):
            output, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"the client failed with {process.returncode}")
    return msgspec.json.decode(output, type=Load)


if __name__ == "__main__":
    made = _Loop(msgspec.json.decode(sys.argv[1], type=Order)).run()
    print(msgspec.json.encode(made).decode())
