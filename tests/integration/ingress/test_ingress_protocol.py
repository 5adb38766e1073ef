"""The two ways through the ingress, over raw sockets: callers cannot tell which one they took."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from loopai.embedded.broker import Broker
from loopai.ingress import parking
from streams import connection
from tests.system import System
from tests.wait import until
from workers import executor

EXECUTE = "/api/v1/tasks/upper/execute"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Caller:
    """One connection that says what it is told to, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def post(self, value: object, *headers: str, path: str = EXECUTE, version: str = "1.1") -> None:
        body = json.dumps({"input": value}).encode()
        lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def answer(self) -> Answer:
        async with asyncio.timeout(15):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
            return Answer(int(first.split()[1]), headers, body)

    async def ended(self) -> bool:
        async with asyncio.timeout(15):
            return await self._reader.read() == b""


@contextlib.asynccontextmanager
async def _caller(system: System) -> AsyncIterator[Caller]:
    url = system.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _output(answer: Answer) -> object:
    assert answer.status == 200, answer
    assert answer.headers["x-api-version"] == "1"
    assert answer.headers["content-type"] == "application/json"
    assert "date" in answer.headers
    return json.loads(answer.body)["output"]


def _counted(system: System, status: str) -> float:
    """How many requests of the route the metrics have with *status*."""
    count = system.services.metrics.requests.labels("execute.execute", "POST", status)
    return float(count._value.get())


async def test_a_connection_serves_many_executions(system: System) -> None:
    """Kept alive, one after the other, each with its own answer."""
    await system.create()
    async with _caller(system) as caller:
        for number in range(20):
            caller.post(f"a{number}")
            assert _output(await caller.answer()) == f"A{number}"
    assert _counted(system, "200") == 20


async def test_pipelined_requests_are_answered_in_order(system: System) -> None:
    """The second comes before the first is answered: it waits for its turn."""
    await system.create()
    async with _caller(system) as caller:
        for number in range(10):
            caller.post(f"a{number}")
        assert [_output(await caller.answer()) for _ in range(10)] == [
            f"A{number}" for number in range(10)
        ]


async def test_a_body_may_come_in_pieces(system: System) -> None:
    """Byte by byte, or in chunks whose number nobody told."""
    await system.create()
    async with _caller(system) as caller:
        for byte in (
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n" % EXECUTE.encode()
            + b'{"input": "ab"}'
        ):
            caller.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert _output(await caller.answer()) == "AB"
        caller.writer.write(
            b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % EXECUTE.encode()
            + b'8\r\n{"input"\r\n7\r\n: "cd"}\r\n0\r\n\r\n'
        )
        assert _output(await caller.answer()) == "CD"


@pytest.mark.parametrize(
    ("headers", "version"),
    [(("Connection: close",), "1.1"), ((), "1.0")],
    ids=["asked to close", "http 1.0"],
)
async def test_a_caller_that_wants_the_end_gets_it(
    system: System, headers: tuple[str, ...], version: str
) -> None:
    """The answer, and then the end of the connection."""
    await system.create()
    async with _caller(system) as caller:
        caller.post("a", *headers, version=version)
        assert _output(await caller.answer()) == "A"
        assert await caller.ended()


async def test_expect_continue_is_honoured(system: System) -> None:
    """The body is sent when the server has said that it wants it."""
    await system.create()
    async with _caller(system) as caller:
        caller.writer.write(
            b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n"
            % EXECUTE.encode()
        )
        assert (await caller.answer()).status == 100
        caller.writer.write(b'{"input": "a"}')
        assert _output(await caller.answer()) == "A"


async def test_what_is_wrong_is_said_and_the_connection_goes_on(system: System) -> None:
    """Every refusal is a problem document, and the next request is served."""
    await system.create()
    async with _caller(system) as caller:
        for value, path, code in [
            (7, EXECUTE, "INVALID_INPUT"),
            ("a", "/api/v1/tasks/nobody/execute", "TASK_NOT_FOUND"),
            ("a", EXECUTE + "?wait=never", "INVALID_QUERY"),
        ]:
            caller.post(value, path=path)
            answer = await caller.answer()
            assert json.loads(answer.body)["code"] == code
            assert answer.headers["content-type"] == "application/problem+json"
        caller.post("a")
        assert _output(await caller.answer()) == "A"


async def test_a_body_over_the_limit_is_refused_however_it_comes(system: System) -> None:
    """Also when nobody says how long it will be."""
    await system.create()
    limit = system.settings.body_bytes_max
    async with _caller(system) as caller:
        caller.writer.write(
            b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n"
            % (EXECUTE.encode(), limit + 1)
            + b" " * (limit + 1)
            + b"\r\n0\r\n\r\n"
        )
        answer = await caller.answer()
        assert answer.status == 413
        assert json.loads(answer.body)["limit_bytes"] == limit


async def test_prefer_is_understood_on_the_same_connection(system: System) -> None:
    """One that waits, one that does not, one that waits."""
    await system.create()
    async with _caller(system) as caller:
        caller.post("a")
        assert _output(await caller.answer()) == "A"
        caller.post("b", "Prefer: respond-async")
        assert (await caller.answer()).status == 202
        caller.post("c")
        assert _output(await caller.answer()) == "C"


async def test_the_trace_of_the_caller_is_kept(system: System) -> None:
    """W3C Trace Context; without one, a new trace begins."""
    await system.create()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with _caller(system) as caller:
        caller.post("a", f"traceparent: 00-{trace}-00f067aa0ba902b7-01")
        assert json.loads((await caller.answer()).body)["trace_id"] == trace
        caller.post("a", "traceparent: nonsense")
        made = json.loads((await caller.answer()).body)["trace_id"]
        assert len(made) == 32
        assert made != trace


async def test_a_caller_that_leaves_is_forgotten(system: System) -> None:
    """Its execution is on the bus and will be recorded; nobody here waits for it any more."""
    await system.create()
    await system.stop_pool(executor)
    waiting = system.services.metrics.dispatch.waiting
    async with _caller(system) as caller:
        caller.post("a")
        await until(lambda: waiting.collect()[0].samples[0].value == 1)

    await until(lambda: waiting.collect()[0].samples[0].value == 0)
    await until(lambda: _counted(system, "499") == 1)
    await system.start_pool(executor)

    async def recorded() -> bool:
        return (await system.bus.jetstream.stream_info("RECORDS")).state.messages == 1

    await until(recorded)


async def test_a_deadline_is_answered_and_the_connection_goes_on(system: System) -> None:
    """Nobody runs it: 504 with the id to look for, on either way."""
    await system.create()
    await system.stop_pool(executor)
    async with _caller(system) as caller:
        for path in (EXECUTE, EXECUTE + "?wait=300"):
            body = b'{"input": "a", "timeout_ms": 50}'
            caller.writer.write(
                b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                % (path.encode(), len(body))
                + body
            )
            answer = await caller.answer()
            problem = json.loads(answer.body)
            assert (answer.status, problem["code"]) == (504, "DEADLINE_PASSED")
            assert problem["execution_id"] in problem["detail"]
            assert answer.headers["x-api-version"] == "1"


async def test_garbage_ends_the_connection_and_nothing_else(system: System) -> None:
    """What is not HTTP gets a 400; the next caller is served."""
    await system.create()
    async with _caller(system) as caller:
        caller.writer.write(b"\x00\xff\x00 not http\r\n\r\n")
        assert (await caller.answer()).status == 400
    async with _caller(system) as caller:
        caller.post("a")
        assert _output(await caller.answer()) == "A"


async def test_overload_is_refused_at_once_and_loses_nobody(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """More callers than may wait get a 503 that says when to come back; the others are answered."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), waiting_max=4
        )
        await system.create()
        callers = [await stack.enter_async_context(_caller(system)) for _ in range(10)]
        for caller in callers[:4]:
            caller.post("a")
        waiting = system.services.metrics.dispatch.waiting
        await until(lambda: waiting.collect()[0].samples[0].value == 4)
        for number, caller in enumerate(callers[4:]):
            caller.post("b", path=EXECUTE + "?wait=5" * (number % 2))
        for caller in callers[4:]:
            refused = await caller.answer()
            assert refused.status == 503
            assert refused.headers["retry-after"] == "1"
            assert json.loads(refused.body)["code"] == "OVERLOADED"
        await system.start_pool(executor)
        for caller in callers[:4]:
            assert _output(await caller.answer()) == "A"
        for caller in callers[4:]:
            caller.post("b")
            assert _output(await caller.answer()) == "B"


async def test_who_was_refused_and_comes_at_once_waits_for_room(
    broker: Broker, bus: connection.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next request stays in the socket, and is served when others have left."""
    monkeypatch.setattr(parking, "PARKED_S", 60.0)
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), waiting_max=1
        )
        await system.create()
        first, second, gone = [await stack.enter_async_context(_caller(system)) for _ in range(3)]
        first.post("a")
        waiting = system.services.metrics.dispatch.waiting
        await until(lambda: waiting.collect()[0].samples[0].value == 1)
        for caller in (gone, second):
            caller.post("b")
            assert (await caller.answer()).status == 503
        gone.writer.close()
        second.post("c")
        assert len(system.services.dispatcher.parking) == 2
        await system.start_pool(executor)
        assert _output(await first.answer()) == "A"
        third = await stack.enter_async_context(_caller(system))
        third.post("d")
        assert _output(await third.answer()) == "D"
        assert _output(await second.answer()) == "C"
        assert not system.services.dispatcher.parking


async def test_who_was_refused_is_heard_again_after_what_it_was_told_to_wait(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """Nobody leaves: it is refused once more, rather than never answered."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), waiting_max=1
        )
        await system.create()
        first, second = [await stack.enter_async_context(_caller(system)) for _ in range(2)]
        first.post("a")
        waiting = system.services.metrics.dispatch.waiting
        await until(lambda: waiting.collect()[0].samples[0].value == 1)
        for _ in range(2):
            second.post("b")
            assert (await second.answer()).status == 503
