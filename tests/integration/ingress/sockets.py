"""Requests byte for byte, and what comes back, on connections of their own."""

import asyncio
import contextlib
import socket
import struct
from typing import Any, NamedTuple, Self

import msgspec

from loopai import errors
from tests.system import System


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self, code: str) -> dict[str, Any]:
        """The problem document that this is, which must be a whole one with *code*."""
        document: dict[str, Any] = msgspec.json.decode(self.body)
        assert document["code"] == code, document
        assert self.status == document["status"] == errors.CODES[code].status
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["x-api-version"] == "1"
        assert document["type"] == f"urn:loopai:error:{code}"
        assert document["title"] == errors.CODES[code].title
        assert document["detail"]
        assert len(document["trace_id"]) == 32
        return document


def request(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Wire:
    """One connection; use it as a context."""

    def __init__(self, system: System) -> None:
        self._url = system.http.base_url
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def reply(self) -> Reply:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Reply(int(first.split()[1]), headers, body)

    async def say(self, *parts: bytes) -> Reply:
        """The reply to *parts*, each of which is on its way before the next."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
        return await self.reply()

    async def trickle(self, part: bytes, pause_s: float = 0.05) -> Reply:
        """The reply that comes while *part* is said again and again, as slowly as that."""
        replying = asyncio.create_task(self.reply())
        with contextlib.suppress(OSError):
            while not replying.done():
                self.writer.write(part)
                await self.writer.drain()
                await asyncio.wait({replying}, timeout=pause_s)
        return await replying

    async def ended(self) -> bool:
        """Whether the other side has nothing more to say."""
        async with asyncio.timeout(20):
            return await self.reader.read() == b""

    def reset(self) -> None:
        """Be gone without a word: what is closed now sends a RST."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
