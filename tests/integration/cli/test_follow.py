"""`loopai execution follow` hears all of it, though its connection breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.integration.cli.conftest import Start

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
QUEUED = b'id: queued\nevent: queued\ndata: {"id":"1","status":"queued"}\n\n'
ENDED = b'id: ended\nevent: ended\ndata: {"id":"1","status":"%b"}\n\n'
PROBLEM = b'event: problem\ndata: {"code":"UNAVAILABLE","message":"no broker"}\n\n'


@contextlib.asynccontextmanager
async def telling(*parts: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives each request the next of *parts* and hangs up; and what it was asked."""
    left, asked = list(parts), list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD + left.pop(0))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_stream_that_breaks_off_is_taken_up_where_it_was(loopai: Start) -> None:
    """Half an event is none; the next request says which was the last whole one."""
    parts = (b"retry: 1000\n\n:\n\n" + QUEUED + b"event: end", ENDED % b"success")
    async with telling(*parts) as (url, asked):
        command = await loopai("execution", "follow", "1", LOOPAI_URL=url)
        assert await command.ended() == 0, command.lines
    assert command.stdout == "queued  1\nsuccess  1\n"
    assert b"last-event-id" not in asked[0].lower()
    assert b"last-event-id: queued\r\n" in asked[1].lower()


async def test_how_it_ends_is_how_the_command_ends(loopai: Start) -> None:
    """A program that failed, and a stream that cannot go on, are exit code 1 with a line."""
    for part, message in (
        (ENDED % b"timeout", "error: the program ended with timeout (execution 1)"),
        (PROBLEM, "error: UNAVAILABLE: no broker"),
    ):
        async with telling(part) as (url, _):
            command = await loopai("execution", "follow", "1", "--json", LOOPAI_URL=url)
            assert await command.ended() == 1
        assert command.lines == [message]
