"""A receiver of webhooks: it keeps what is posted to it, and answers as a test wants."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec

Answer = bytes | int
"""A status, or all that is written."""


class Post(msgspec.Struct, frozen=True):
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found

    def verify(self, secret: str) -> bool:
        """Whether one of its signatures is of *secret*, as Standard Webhooks has it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{wanted}" in self.headers["webhook-signature"].split()


class Receiver:
    """Use it as a context manager; `answer` may be replaced at any time."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.under_way = 0
        self.under_way_most = 0
        self.answer: Callable[[Post], Answer | Awaitable[Answer]] = lambda _: 204
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen; on the same port as before where it was closed."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has left
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (each.partition(":") for each in lines if each)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        post = Post(line.split()[1], headers, body)
        self.posts.append(post)
        self.under_way += 1
        self.under_way_most = max(self.under_way_most, self.under_way)
        try:
            answer = self.answer(post)
            found = answer if isinstance(answer, bytes | int) else await answer
        finally:
            self.under_way -= 1
        if isinstance(found, int):
            found = b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % found
        writer.write(found)
        await writer.drain()
        return b"connection: close" not in found
