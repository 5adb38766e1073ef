"""What hostile clients send, byte for byte, on the hot path and on the general way alike."""

import asyncio
import contextlib
import random
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopai.embedded.broker import Broker
from loopai.ingress import patience
from streams import connection
from tests.integration.ingress.sockets import Wire, request
from tests.system import System
from tests.wait import until

EXECUTE = "/api/v1/tasks/upper/execute"
WAYS = {"hot": (EXECUTE,), "general": (EXECUTE, "Prefer: wait=300"), "tasks": ("/api/v1/tasks",)}
"""A path and headers: what the protocol does itself, what it leaves, and another resource."""
PAGE_BYTES = resource.getpagesize()


@pytest.fixture
async def hasty(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """An ingress without workers that waits a second for what is to come."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), receive_s=1, timeout_ms=100
        )
        await system.create()
        yield system


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


async def answers(system: System) -> bool:
    return (await system.http.get("/health/live")).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_headers_over_the_limit_are_refused(hasty: System, way: str) -> None:
    """32 KiB of request line and headers are taken, a byte more is a 431 that says so."""
    path, *headers = WAYS[way]
    spare = patience.HEAD_BYTES_MAX - len(path)
    spare -= sum(len(line) + 2 for line in ("Host: x", "Content-Length: 2", *headers))
    for size, wrong in ((spare - len("X-A: \r\n"), False), (spare - len("X-A: \r\n") + 1, True)):
        async with Wire(hasty) as wire:
            reply = await wire.say(request(path, b"{}", *headers, f"X-A: {'a' * size}"))
            if wrong:
                document = reply.problem("HEADERS_TOO_LARGE")
                assert document["limit_bytes"] == patience.HEAD_BYTES_MAX
                assert reply.headers["connection"] == "close"
                assert await wire.ended()
            else:
                reply.problem("INVALID_REQUEST")
    assert await answers(hasty)


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX-A: ",
        b"GET / HTTP/1.1\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ",
        b"POST /api/v1/tasks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"POST /api/v1/tasks/upper/execute HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=",
    ],
    ids=["url", "header", "headers", "trailer", "trailers", "extension"],
)
async def test_heads_without_end_are_refused_in_constant_memory(
    hasty: System, begun: bytes
) -> None:
    """Whoever sends a head, or what follows a body, for ever gets a 431 and takes no memory."""
    piece = (b"a" * 60 + b": b\r\n" if begun.endswith(b"\n") else b"a" * 64) * 1024
    before = resident_bytes()
    async with Wire(hasty) as wire:
        wire.writer.write(begun)
        reply = await wire.trickle(piece, 0)
        reply.problem("HEADERS_TOO_LARGE")
    assert resident_bytes() - before < 32 * 1024 * 1024
    assert await answers(hasty)


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_body_is_not_waited_for(hasty: System, way: str) -> None:
    """A byte now and then holds a connection for the time that is set, and no longer."""
    path, *headers = WAYS[way]
    head = request(path, b"", *headers).replace(b"Content-Length: 0", b"Content-Length: 5000")
    async with Wire(hasty) as wire:
        wire.writer.write(head)
        reply = await wire.trickle(b" ")
        reply.problem("REQUEST_TIMEOUT")
        assert reply.headers["connection"] == "close"
        assert await wire.ended()


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_stops_is_not_waited_for(hasty: System, way: str) -> None:
    """The same for a client that says nothing any more."""
    path, *headers = WAYS[way]
    async with Wire(hasty) as wire:
        (await wire.say(request(path, b"{}" * 9, *headers)[:-3])).problem("REQUEST_TIMEOUT")


async def test_a_slow_head_is_not_waited_for(hasty: System) -> None:
    """Nor is a head that comes byte by byte, of a first request or of a second."""
    async with Wire(hasty) as wire:
        wire.writer.write(b"GET /health/live HTTP/1.1\r\n")
        (await wire.trickle(b"X-A: b\r\n")).problem("REQUEST_TIMEOUT")
    async with Wire(hasty) as wire:
        assert (await wire.say(request("/health/live", b"", method="GET"))).status == 200
        (await wire.say(b"GET /hea")).problem("REQUEST_TIMEOUT")


async def test_who_says_nothing_is_left(hasty: System) -> None:
    """A connection without a word is closed without one."""
    async with Wire(hasty) as wire:
        assert await wire.ended()


async def test_a_steady_body_may_take_longer(hasty: System) -> None:
    """Who sends 4 KiB a second is waited for: a slow line is no attack."""
    loop = asyncio.get_running_loop()
    body = b'{"input": "' + b"a" * 40_000 + b'"}'
    whole = request(EXECUTE, body)
    async with Wire(hasty) as wire:
        began = loop.time()
        replying = asyncio.create_task(wire.reply())
        for sent in range(0, len(whole), 1500):
            wire.writer.write(whole[sent : sent + 1500])
            await asyncio.wait({replying}, timeout=0.075)
        reply = await replying
        assert loop.time() - began > 1.5
        reply.problem("DEADLINE_PASSED")  # it was read, and nobody works


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_says_that_it_is_too_large_is_not_waited_for(
    hasty: System, way: str
) -> None:
    """Its head is enough: the client learns of it before it sends the rest."""
    path, *headers = WAYS[way]
    declared = f"Content-Length: {hasty.settings.body_bytes_max + 1}"
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, declared])
    async with Wire(hasty) as wire:
        (await wire.say(head.encode() + b"\r\n\r\n")).problem("BODY_TOO_LARGE")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 60_000], ids=["small chunks", "large chunks"])
async def test_a_body_without_end_is_refused_in_constant_memory(
    hasty: System, way: str, size: int
) -> None:
    """A chunked body is read to the limit and not beyond; then its client is left."""
    path, *headers = WAYS[way]
    chunk = b"%x\r\n%s\r\n" % (size, b" " * size)
    before = resident_bytes()
    async with Wire(hasty) as wire:
        head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers])
        wire.writer.write(head.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        reply = await wire.trickle(chunk * (60_000 // size), 0)
        reply.problem("BODY_TOO_LARGE")
    assert resident_bytes() - before < 64 * 1024 * 1024
    assert await answers(hasty)


async def test_what_comes_behind_a_refusal_is_dropped_for_a_while(hasty: System) -> None:
    """The answer can be read by who still sends; who goes on sending is left in the end."""
    async with Wire(hasty) as wire:
        head = b"POST /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        (await wire.say(head)).problem("NOT_FOUND")
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(OSError):
            while not wire.reader.at_eof():
                wire.writer.write(b"1\r\na\r\n")
                await wire.writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wire.reader.read(1), 0.2)
        took_s = asyncio.get_running_loop().time() - began
        assert patience.LINGER_S - 1 < took_s < patience.LINGER_S + 10


NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "a length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "an endless length": b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nX-A: b\r\n c\r\nX:\x00\r\n\r\n",
    "a name with a space": b"GET / HTTP/1.1\r\nX A: b\r\n\r\n",
    "no chunk": b"POST /api/v1/tasks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no chunk on the hot path": b"POST " + EXECUTE.encode() + b" HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "nothing but zeros": b"\0" * 1000,
}


@pytest.mark.parametrize("name", NOT_HTTP)
async def test_what_is_not_http_is_told_so(hasty: System, name: str) -> None:
    """A problem document for these as well, and the last word on their connection."""
    async with Wire(hasty) as wire:
        (await wire.say(NOT_HTTP[name])).problem("MALFORMED_REQUEST")
        assert await wire.ended()


async def test_rubbish_behind_a_request_does_not_answer_it(hasty: System) -> None:
    """A request that waits for its result is not told what another one did wrong."""
    async with Wire(hasty) as wire:
        wire.writer.write(request(EXECUTE, b'{"input": "a"}') + b"\0\0\0\0")
        assert b"MALFORMED" not in await asyncio.wait_for(wire.reader.read(), 20)
    assert await answers(hasty)


HOSTILE_JSON = {
    "depth 10,000": b"[" * 10_000 + b"]" * 10_000,
    "objects of depth 10,000": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "depth without end": b"[" * 500_000,
    "invalid UTF-8": b'"\xff\xfe"',
    "an overlong zero": b'"\xc0\x80"',
    "half a surrogate": b'"\\ud800"',
    "infinity by digits": b"1e400",
    "a number of 5,000 digits": b"1" + b"0" * 5_000,
    "a fraction of 5,000 digits": b"0." + b"1" * 5_000 + b"e99999",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "a byte order mark": b"\xef\xbb\xbf1",
    "nothing": b"",
}


@pytest.mark.parametrize("way", ["hot", "general"])
async def test_hostile_json_is_a_problem_of_its_sender(hasty: System, way: str) -> None:
    """In the input, as the body and as another field, none of it is worth more than a 4xx."""
    path, *headers = WAYS[way]
    async with Wire(hasty) as wire:
        for name, value in HOSTILE_JSON.items():
            for body in (
                b'{"input": ' + value + b"}",
                value,
                b'{"input": "a", "timeout_ms": ' + value + b"}",
                b'{"input": "a", "timeoutMs": ' + value + b"}",
                b'{"input": "a", "else": ' + value + b"}",
            ):
                reply = await wire.say(request(path, body, *headers))
                assert 400 <= reply.status < 500, (name, body[:60], reply)
                assert reply.headers["content-type"] == "application/problem+json"
    assert await answers(hasty)


async def test_hostile_json_is_no_task(hasty: System) -> None:
    """Nor is it a task's name, schema or example."""
    async with Wire(hasty) as wire:
        for name, value in HOSTILE_JSON.items():
            for field in (b"name", b"input_schema", b"examples", b"accuracyTarget", b"description"):
                body = b'{"name": "x", "' + field + b'": ' + value + b"}"
                reply = await wire.say(request("/api/v1/tasks", body))
                assert 400 <= reply.status < 500, (name, field, reply)


@pytest.mark.parametrize("way", WAYS)
async def test_who_vanishes_leaves_nothing_behind(hasty: System, way: str) -> None:
    """A connection that is reset at any byte of a request is an end, not an error."""
    path, *headers = WAYS[way]
    whole = request(path, b'{"input": "a"}' if path == EXECUTE else b'{"name": "b"}', *headers)
    for cut in range(1, len(whole) + 1, 7):
        async with Wire(hasty) as wire:
            wire.writer.write(whole[:cut])
            wire.reset()
    assert await answers(hasty)
    await until(lambda: _is_empty(hasty))
    assert 'status="500"' not in (await hasty.http.get("/metrics")).text


def _is_empty(system: System) -> bool:
    return not system.services.dispatcher.waiting


def _damaged(whole: bytes, chance: random.Random) -> bytes:
    """*whole* with some of it gone, doubled, or other bytes."""
    for _ in range(chance.randint(1, 4)):
        place, end = sorted(chance.choices(range(len(whole) + 1), k=2))
        middle = chance.choice(
            (b"", whole[place:end] * 2, chance.randbytes(end - place), b"\r\n", b"\0", b"0" * 99)
        )
        whole = whole[:place] + middle + whole[end:]
    return whole


async def test_damaged_requests_break_nothing(hasty: System) -> None:
    """Of a thousand, each is answered below 500 or left, and the next caller is served."""
    chance = random.Random(20261123)  # noqa: S311 (to be the same each time)
    samples = [
        request(path, b'{"input": "a", "timeout_ms": 1}', "Accept: */*", "X-Api-Version: 1", *more)
        for path, *more in WAYS.values()
    ]
    samples.append(
        b"POST /api/v1/batch/execute?task_id=upper&timeout_ms=1 HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'f\r\n{"input": "a"}\n\r\n0\r\n\r\n'
    )

    async def one(said: bytes) -> int:
        async with Wire(hasty) as wire:
            with contextlib.suppress(OSError):
                wire.writer.write(said)
                wire.writer.write_eof()
                async with asyncio.timeout(30):
                    answer = await wire.reader.read(12)
                    return int(answer[9:12] or 0)
        return 0

    statuses: set[int] = set()
    for _ in range(20):
        sent = [_damaged(chance.choice(samples), chance) for _ in range(50)]
        statuses.update(await asyncio.gather(*map(one, sent)))
    assert not {status for status in statuses if status >= 500} - {504}  # its deadline passed
    assert {400, 404, 422} < statuses
    assert await answers(hasty)
    assert 'status="500"' not in (await hasty.http.get("/metrics")).text


async def test_many_who_only_connect_do_not_keep_others_out(hasty: System) -> None:
    """Two hundred that say half a word are gone after the time that is set."""
    url = hasty.http.base_url
    held = []
    for _ in range(200):
        each = socket.create_connection((url.host, url.port or 80))
        each.sendall(b"POST /api")
        held.append(each)
    try:
        assert await answers(hasty)
        for each in held:
            each.settimeout(0)
        await until(lambda: all(_is_answered(each) for each in held))
    finally:
        for each in held:
            each.close()


def _is_answered(client: socket.socket) -> bool:
    try:
        return client.recv(64, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return False
