"""Calls over NATS beside HTTP: one gateway and one ingress of the same stack, 64 callers each.

Callers are the same on both sides: one process, a connection and a task of its loop for each, raw
sockets, the next call after each answer. They cost alike, so what differs is the way in. Rounds
take turns, and what is shown is the median over them.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec

from bench import caller, product, report, wrk
from streams import subjects

CALLERS: Final = 64
ROUNDS: Final = 3
SECONDS: Final = 4.0
ANSWER_S_MAX: Final = 30.0

Ask = Callable[[], Awaitable[None]]
"""One call, until its answer is read."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What the callers of one way in saw; times of calls in s."""

    rate: float
    times: Sequence[float]


def measure() -> report.Report:
    """Measure both; takes half a minute."""
    return tabulate(asyncio.run(_measure()))


async def _measure() -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {"HTTP": [], "NATS": []}
    async with product.opened("always") as stack:
        for _ in range(ROUNDS):
            found["HTTP"].append(await _round(lambda: _http(stack.url)))
            found["NATS"].append(await _round(lambda: _nats(stack.nats_url)))
    return found


async def _round(opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]]) -> Round:
    times: list[float] = []
    ends = time.perf_counter() + SECONDS

    async def one() -> None:
        async with opened() as ask:
            while (begun := time.perf_counter()) < ends:
                async with asyncio.timeout(ANSWER_S_MAX):
                    await ask()
                times.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(one())
    return Round(rate=len(times) / SECONDS, times=sorted(times))


@contextlib.asynccontextmanager
async def _http(url: str) -> AsyncIterator[Ask]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    whole = caller.request(host)

    async def ask() -> None:
        writer.write(whole)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())

    yield ask
    writer.close()


@contextlib.asynccontextmanager
async def _nats(url: str) -> AsyncIterator[Ask]:
    """The protocol in a few lines: a client library would cost more than the call."""
    host, _, port = url.removeprefix("nats://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await reader.readline()
    inbox = f"_INBOX.bench.{id(writer)}"
    writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
    writer.write(f"SUB {inbox} 1\r\n".encode())
    subject = subjects.call("default", product.TASK)
    whole = f"PUB {subject} {inbox} {len(wrk.BODY)}\r\n".encode() + wrk.BODY + b"\r\n"

    async def ask() -> None:
        writer.write(whole)
        while not (line := await reader.readline()).startswith(b"HMSG"):
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        answer = await reader.readexactly(int(line.split()[-1]) + 2)
        if b"Nats-Service-Error" in answer:
            raise RuntimeError(answer.decode())

    yield ask
    writer.close()


def tabulate(found: dict[str, list[Round]]) -> report.Report:
    rows: list[report.Row] = []
    for name, rounds in found.items():
        rows.append(
            {
                "way in": name,
                "calls a second": _figure([each.rate for each in rounds], "a second"),
                "p50": _figure([_at(each, 0.5) for each in rounds], "s"),
                "p99": _figure([_at(each, 0.99) for each in rounds], "s"),
            }
        )
    rates = {
        name: statistics.median(each.rate for each in rounds) for name, rounds in found.items()
    }
    return report.Report(
        title=f"calls over NATS beside HTTP, {CALLERS} callers",
        columns=("way in", "calls a second", "p50", "p99"),
        rows=rows,
        notes=(
            f"A gateway took {rates['NATS'] / rates['HTTP']:.2f} times the calls of an ingress.",
            "The callers, one process in Python, cost as much as either.",
        ),
    )


def _figure(values: Sequence[float], unit: report.Unit) -> report.Figure:
    return report.Figure(statistics.median(values), unit)


def _at(found: Round, share: float) -> float:
    return found.times[int(share * (len(found.times) - 1))]
