"""gRPC beside HTTP, in one ingress process: single executions, and many at once.

Single ones: 64 callers over HTTP (wrk), 64 calls on 8 connections over gRPC (h2load), and one
stream of items, each a message, with 64 on their way at once. Many: 10,000 items in one request, as
lines of JSON or in messages of 256. Rounds take turns, and what is shown is the median over them.
Bytes are counted by a proxy, both ways, of the first and of later calls of one connection.
"""

import asyncio
import contextlib
import re
import shutil
import socket
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import grpc
import httpx
import msgspec

from bench import product, report, wrk
from loopai.ingress.rpc import loopai_pb2 as pb

AT_ONCE: Final = 64
CONNECTIONS: Final = 8
ROUNDS: Final = 3
SECONDS: Final = 4
STREAM_ITEMS: Final = 5_000
BATCH_ITEMS: Final = 10_000
MESSAGE_ITEMS: Final = 256
COUNTED: Final = 100
"""Calls after the first whose bytes are counted."""
INPUT: Final = msgspec.json.encode(product.INPUT)
SERVICE: Final = "/loopai.v1.Loopai/"
RPC_HEADERS: Final = ("content-type: application/grpc", "te: trailers")
REST, UNARY, STREAM = "HTTP, keep-alive", "gRPC, unary", "gRPC, one stream"
LINES, MESSAGES = "HTTP, lines of JSON", "gRPC, messages of 256"

Ask = Callable[[], Awaitable[None]]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    rates: dict[str, list[float]]
    """Executions a second, of each way in."""
    sizes: dict[str, tuple[float, float]]
    """Bytes of the first call, with its connection, and of each later one."""


def measure() -> report.Report:
    """Measure all; takes a minute and a half."""
    return tabulate(asyncio.run(_measure()))


async def _measure() -> Found:
    if shutil.which("h2load") is None:
        raise report.Unavailable("h2load is not installed: apt-get install nghttp2-client")
    port = _free_port()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="loopai-bench-") as name:
        bodies = _written(Path(name))
        async with product.opened("always", grpc=f"127.0.0.1:{port}") as stack:
            sizes = await _sizes(stack.url, port)
            for _ in range(ROUNDS):
                load = await wrk.run(f"{stack.url}{product.EXECUTE}", AT_ONCE, SECONDS)
                rates.setdefault(REST, []).append(load.rate)
                for way, (url, body, items, arguments) in _ways(stack.url, port, bodies).items():
                    rate = await _h2load(url, body, *arguments)
                    rates.setdefault(way, []).append(rate * items)
                    await product.settled(stack)
    return Found(rates=rates, sizes=sizes)


def _ways(
    url: str, port: int, bodies: dict[str, Path]
) -> dict[str, tuple[str, Path, int, tuple[str, ...]]]:
    """By name: where to, with what, how many executions that is, and how."""
    rpc = tuple(f"--header={each}" for each in RPC_HEADERS)
    server = f"http://127.0.0.1:{port}{SERVICE}"
    per_connection = AT_ONCE // CONNECTIONS
    batch = f"{url}/api/v1/batch/execute?task_id={product.TASK}"
    lines = ("--h1", "-c1", "-m1", "--header=content-type: application/x-ndjson")
    return {
        UNARY: (
            f"{server}Execute",
            bodies[UNARY],
            1,
            (f"-c{CONNECTIONS}", f"-m{per_connection}", *rpc),
        ),
        STREAM: (f"{server}ExecuteBatch", bodies[STREAM], STREAM_ITEMS, ("-c1", "-m1", *rpc)),
        LINES: (batch, bodies[LINES], BATCH_ITEMS, lines),
        MESSAGES: (f"{server}ExecuteBatch", bodies[MESSAGES], BATCH_ITEMS, ("-c1", "-m1", *rpc)),
    }


def _written(folder: Path) -> dict[str, Path]:
    """The body of one request of each kind, in a file."""
    single = pb.ExecuteBatchRequest(items=pb.BatchItems(items=[pb.BatchItem(input=INPUT)]))
    several = pb.ExecuteBatchRequest(
        items=pb.BatchItems(items=[pb.BatchItem(input=INPUT)] * MESSAGE_ITEMS)
    )
    terms = pb.BatchTerms(task=product.TASK, ordered=False, max_concurrency=AT_ONCE)
    open_terms = pb.BatchTerms(task=product.TASK)
    rest = pb.BatchItems(items=[pb.BatchItem(input=INPUT)] * (BATCH_ITEMS % MESSAGE_ITEMS))
    texts = {
        UNARY: _framed(pb.ExecuteRequest(task=product.TASK, input=INPUT).SerializeToString()),
        STREAM: _framed(pb.ExecuteBatchRequest(terms=terms).SerializeToString())
        + _framed(single.SerializeToString()) * STREAM_ITEMS,
        LINES: (b'{"input":%b}\n' % INPUT) * BATCH_ITEMS,
        MESSAGES: _framed(pb.ExecuteBatchRequest(terms=open_terms).SerializeToString())
        + _framed(several.SerializeToString()) * (BATCH_ITEMS // MESSAGE_ITEMS)
        + _framed(pb.ExecuteBatchRequest(items=rest).SerializeToString()),
    }
    paths = {}
    for number, (name, text) in enumerate(texts.items()):
        paths[name] = folder / str(number)
        paths[name].write_bytes(text)
    return paths


def _framed(message: bytes) -> bytes:
    """As gRPC has messages in a body: not compressed, then the length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


async def _h2load(url: str, body: Path, *arguments: str) -> float:
    """Requests a second that were answered to their end."""
    command = ["h2load", f"-D{SECONDS}", f"-d{body}", *arguments, url]
    started = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(SECONDS + wrk.EXIT_S_MAX):
            output, _ = await started.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        raise
    text = output.decode()
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", text)
    if counts is None or rate is None or counts[2] != "0" or counts[3] != "0":
        raise RuntimeError(f"h2load: {text}")
    return float(rate[1])


async def _sizes(url: str, port: int) -> dict[str, tuple[float, float]]:
    """Also shows that calls succeed: h2load looks at the status of HTTP alone."""
    target = httpx.URL(url)
    return {
        REST: await _counted(target.port or 80, _http),
        UNARY: await _counted(port, _unary),
        STREAM: await _counted(port, _stream),
    }


async def _counted(
    port: int, opened: Callable[[int], contextlib.AbstractAsyncContextManager[Ask]]
) -> tuple[float, float]:
    async with _proxy(port) as (own, counts), opened(own) as ask:
        await ask()
        first = sum(counts)
        for _ in range(COUNTED):
            await ask()
        return first, (sum(counts) - first) / COUNTED


@contextlib.asynccontextmanager
async def _proxy(port: int) -> AsyncIterator[tuple[int, list[int]]]:
    """A port that leads to *port*, and the bytes that went through it."""
    counts = [0]
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            counts[0] += len(piece)
            writer.write(piece)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", port)
        tasks.update(
            {
                asyncio.create_task(copy(reader, to_behind)),
                asyncio.create_task(copy(behind, writer)),
            }
        )

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], counts
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def _http(port: int) -> AsyncIterator[Ask]:
    """With the headers of wrk, which are the least that HTTP takes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST {product.EXECUTE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(wrk.BODY)}\r\n\r\n"
    )

    async def ask() -> None:
        writer.write(head.encode() + wrk.BODY)
        answered = await reader.readuntil(b"\r\n\r\n")
        length = int(answered.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if b'"success"' not in await reader.readexactly(length):
            raise RuntimeError(answered.decode())

    yield ask
    writer.close()


@contextlib.asynccontextmanager
async def _unary(port: int) -> AsyncIterator[Ask]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(
            f"{SERVICE}Execute", pb.ExecuteRequest.SerializeToString, pb.Execution.FromString
        )

        async def ask() -> None:
            found = await method(pb.ExecuteRequest(task=product.TASK, input=INPUT))
            if found.status != "success":
                raise RuntimeError(found)

        yield ask


@contextlib.asynccontextmanager
async def _stream(port: int) -> AsyncIterator[Ask]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(
            f"{SERVICE}ExecuteBatch",
            pb.ExecuteBatchRequest.SerializeToString,
            pb.ExecuteBatchResponse.FromString,
        )()
        terms = pb.BatchTerms(task=product.TASK, ordered=False)
        await call.write(pb.ExecuteBatchRequest(terms=terms))
        one = pb.ExecuteBatchRequest(items=pb.BatchItems(items=[pb.BatchItem(input=INPUT)]))

        async def ask() -> None:
            await call.write(one)
            (result,) = (await call.read()).results.results
            if result.status != "success":
                raise RuntimeError(result)

        yield ask
        call.cancel()


def tabulate(found: Found) -> report.Report:
    medians = {way: statistics.median(rates) for way, rates in found.rates.items()}
    rows: list[report.Row] = []
    for way, rate in medians.items():
        beside = medians[LINES if way in {LINES, MESSAGES} else REST]
        row: dict[str, report.Figure | str] = {
            "way in": way,
            "executions a second": report.Figure(rate, "a second"),
            "of HTTP": report.Figure(rate / beside, "ratio"),
        }
        if way in found.sizes:
            first, later = found.sizes[way]
            row |= {"bytes, first": report.Figure(first, ""), "later": report.Figure(later, "")}
        rows.append(row)
    best = max(medians[UNARY], medians[STREAM]) / medians[REST]
    return report.Report(
        title="gRPC beside HTTP, one ingress process",
        columns=("way in", "executions a second", "of HTTP", "bytes, first", "later"),
        rows=rows,
        notes=(
            f"Single executions over gRPC: {best:.2f} times the rate of HTTP at best (ADR 0026).",
            f"Single ones: {AT_ONCE} at once. Of many: {BATCH_ITEMS:,} in each request.",
        ),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
