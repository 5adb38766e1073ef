"""Many executions at once: through JSON batches, streams of lines, and direct publishing.

The broker has its default sync. Every execution is stored on the bus before it is run and recorded
before it is answered; in the end the records are counted. Stacks with one worker and with two are
measured in turn, round by round, and so are the ways into each.
"""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from bench import processes, product, report
from streams import codec, ids, subjects, topology
from streams.messages import ExecuteBatch, ExecuteItem

ROUNDS = 3
WORKERS = (1, 2)
JSON_ITEMS = 10_000
"""Of one request, the most that it may have."""
JSON_REQUESTS = 5
LINES = 200_000
MESSAGES = 400
"""Of direct publishing, each full."""
AT_ONCE = 8
"""Publishes that wait for the broker's word."""
LONG_LINES = 1_000_000
PIECE_BYTES = 64 * 1024
TIMEOUT_MS = 60_000
SAMPLE_S = 0.1
POLL_S = 0.005

# What issue 4 asks for.
RATE_MIN = 100_000
RSS_MB_MAX = 150

Way = Literal["JSON", "NDJSON", "NATS"]
LABELS: Final[Mapping[Way, str]] = {
    "JSON": f"JSON, {JSON_ITEMS:,} items a request",
    "NDJSON": f"NDJSON, {LINES:,} lines",
    "NATS": f"direct publish, {topology.ITEMS_MAX} items a message",
}
GROUPS: Final = {
    "loopai.ingress": "ingress",
    "nats-server": "broker",
    "workers executor": "worker",
}
"""By what they run."""
ROLES: Final = ("ingress", "broker", "worker", "cells", "client")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One way into one stack in one round."""

    rate: float
    cpu_s: Mapping[str, float]
    """Of one execution, by group of processes; `client` is the bench itself."""


Samples = Mapping[tuple[int, Way], Sequence[Sample]]
"""One a round, by number of workers and way."""


def measure() -> report.Report:
    """Measure all ways; takes less than two minutes."""
    return tabulate(asyncio.run(_measure()))


class Found(msgspec.Struct, frozen=True, kw_only=True):
    samples: Samples
    resident_mb: float
    """The most that the ingress had during the long stream."""
    asked: int
    recorded: int


class Running:
    """A stack that runs, and how many executions it was asked for."""

    def __init__(self, made: product.Product, asked: int) -> None:
        self.http = made.http
        self.bus = made.bus
        self.asked = asked
        self._pids = made.pids

    def cpu_s(self) -> dict[str, float]:
        """CPU time so far, by group of processes."""
        used = dict.fromkeys(ROLES, 0.0)
        for pid, (own, *below) in processes.trees({os.getpid(), *self._pids}).items():
            name = "client" if pid == os.getpid() else GROUPS.get(processes.command(pid))
            if name is not None:
                used[name] += own.cpu_s
            if name == "worker":
                used["cells"] += sum(each.cpu_s for each in below)
        return used

    def ingress_mb(self) -> float:
        trees = processes.trees(self._pids)
        return sum(
            own.resident_mb
            for pid, (own, *_) in trees.items()
            if GROUPS.get(processes.command(pid)) == "ingress"
        )


@contextlib.asynccontextmanager
async def _running(workers: int) -> AsyncIterator[Running]:
    async with product.opened("default", workers=workers) as made:
        yield Running(made, await product.recorded(made.bus))


async def _measure() -> "Found":
    samples: dict[tuple[int, Way], list[Sample]] = {}
    ways: Mapping[Way, Callable[[Running], Awaitable[int]]] = {
        "JSON": _json,
        "NDJSON": _ndjson,
        "NATS": _nats,
    }
    async with contextlib.AsyncExitStack() as stack:
        started = {each: await stack.enter_async_context(_running(each)) for each in WORKERS}
        for each in started.values():
            await _sample(each, _json)  # to warm up
        for _ in range(ROUNDS):
            for workers, each in started.items():
                for way, run in ways.items():
                    samples.setdefault((workers, way), []).append(await _sample(each, run))
        resident_mb = await _long(started[WORKERS[-1]])
        return Found(
            samples=samples,
            resident_mb=resident_mb,
            asked=sum(each.asked for each in started.values()),
            recorded=sum([await product.recorded(each.bus) for each in started.values()]),
        )


async def _sample(of: Running, run: Callable[[Running], Awaitable[int]]) -> Sample:
    before, began = of.cpu_s(), time.perf_counter()
    count = await run(of)
    took, after = time.perf_counter() - began, of.cpu_s()
    of.asked += count
    return Sample(
        rate=count / took, cpu_s={name: (after[name] - before[name]) / count for name in after}
    )


async def _json(of: Running) -> int:
    item = {"input": product.INPUT}
    body = msgspec.json.encode({"task_id": product.TASK, "items": [item] * JSON_ITEMS})
    for _ in range(JSON_REQUESTS):
        answer = await of.http.post("/api/v1/batch/execute", content=body)
        _check(msgspec.json.decode(answer.content), JSON_ITEMS)
    return JSON_ITEMS * JSON_REQUESTS


async def _ndjson(of: Running) -> int:
    await _lines(of, LINES)
    return LINES


async def _lines(of: Running, count: int) -> None:
    """Write *count* lines and read as many: the bytes only, so that this side costs little."""
    url = of.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    query = f"task_id={product.TASK}&timeout_ms={TIMEOUT_MS}"
    writer.write(
        f"POST /api/v1/batch/execute?{query} HTTP/1.1\r\nhost: {url.host}\r\n"
        "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    )

    async def write() -> None:
        for piece in _pieces(count):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    writing = asyncio.create_task(write())
    tail = b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        received = await reader.read(2**18)
        if not received:
            raise RuntimeError(f"the stream ended early: {tail!r}")
        tail = (tail + received)[-1024:]
    await writing
    writer.close()
    last = tail[: tail.rindex(b"}") + 1].rpartition(b"\n")[2]
    _check(msgspec.json.decode(last)["summary"], count)


def _pieces(count: int) -> Iterator[bytes]:
    line = msgspec.json.encode({"input": product.INPUT}) + b"\n"
    at_once = PIECE_BYTES // len(line)
    for begun in range(0, count, at_once):
        yield line * min(at_once, count - begun)


async def _nats(of: Running) -> int:
    """Until all that was published is recorded, which is before it leaves the work queue."""
    subject = subjects.execute("bulk", "default", product.TASK)
    gate = asyncio.Semaphore(AT_ONCE)
    deadline_ms = int(time.time() * 1000) + TIMEOUT_MS
    encoded_input = msgspec.json.encode(product.INPUT)

    async def publish() -> None:
        async with gate:
            batch = ExecuteBatch(
                items=tuple(
                    ExecuteItem(id=each, input=encoded_input, deadline_ms=deadline_ms)
                    for each in ids.several(time.time_ns() // 10**6, topology.ITEMS_MAX)
                )
            )
            await of.bus.jetstream.publish(subject, codec.EXECUTE.encode(batch), timeout=30)

    await asyncio.gather(*(publish() for _ in range(MESSAGES)))
    left = MESSAGES
    while left:
        await asyncio.sleep(POLL_S)
        left = (await of.bus.jetstream.stream_info("EXECUTE")).state.messages
    return MESSAGES * topology.ITEMS_MAX


async def _long(of: Running) -> float:
    """The most memory that the ingress had during a long stream, in MB."""
    seen = []

    async def watch() -> None:
        while True:
            seen.append(of.ingress_mb())
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    await _lines(of, LONG_LINES)
    watching.cancel()
    of.asked += LONG_LINES
    return max(seen)


def _check(summary: Mapping[str, object], count: int) -> None:
    if summary["succeeded"] != count:
        raise RuntimeError(f"{summary['succeeded']} of {count} succeeded")


def tabulate(found: Found) -> report.Report:
    """The table and the plot of what was measured, and whether it is what was asked for."""
    most = max(_rate(of_way) for of_way in found.samples.values())
    lost = found.asked - found.recorded
    return report.Report(
        title="executions in batches",
        columns=("workers", "through", "a second", *(f"CPU: {name}" for name in ROLES)),
        rows=[_row(*key, of_way) for key, of_way in found.samples.items()],
        notes=[
            _target(f"{most:,.0f} a second", f"≥ {RATE_MIN:,}", most >= RATE_MIN),
            _target(
                f"{LONG_LINES:,} lines in one stream: the ingress took {found.resident_mb:,.0f} MB",
                f"< {RSS_MB_MAX} MB",
                found.resident_mb < RSS_MB_MAX,
            ),
            f"{ROUNDS} rounds; CPU time is that of one execution.",
            f"{found.recorded:,} of {found.asked:,} executions were found in RECORDS.",
        ],
        panels=_panels(found.samples),
        failures=[f"{lost:,} of {found.asked:,} executions were not recorded"] if lost else [],
    )


def _row(workers: int, way: Way, samples: Sequence[Sample]) -> report.Row:
    used = {
        f"CPU: {name}": report.Figure(statistics.median(each.cpu_s[name] for each in samples), "s")
        for name in ROLES
    }
    rate = report.Figure(_rate(samples), "a second")
    return {"workers": f"{workers}", "through": LABELS[way], "a second": rate, **used}


def _rate(samples: Sequence[Sample]) -> float:
    return statistics.median(each.rate for each in samples)


def _target(what: str, wanted: str, holds: bool) -> str:
    return f"{what}. Target {wanted}: {'holds' if holds else 'DOES NOT HOLD'}."


def _panels(samples: Samples) -> list[report.Panel]:
    counts = list(dict.fromkeys(workers for workers, _ in samples))
    ways = list(dict.fromkeys(way for _, way in samples))
    rates = report.Panel(
        title="executions a second (more is better)",
        axis="workers",
        groups=[f"{count}" for count in counts],
        series=[
            report.Series(
                name=LABELS[way],
                role="ours",
                values=[_rate(samples[count, way]) for count in counts],
            )
            for way in ways
        ],
    )
    return [rates]
