"""A real server before the real one, which fails as a test plans it."""

import asyncio
import contextlib
import re
from typing import Self

import httpx


def answer(status: str, body: bytes = b"{}", **headers: str) -> bytes:
    """A whole answer, whose connection ends behind it."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{lines}\r\n"
    ).encode() + body


class Front:
    """Each connection takes the next step of `plan`, and what has none goes through.

    A step is what is written (bytes), after how many bytes of the true answer the connection is
    cut (int), `silence`, or `restart`, which closes the server and opens it again a moment later.
    """

    def __init__(self, behind: httpx.URL, *plan: bytes | int | str) -> None:
        self._behind = behind
        self.plan = list(plan)
        self.heads: list[str] = []
        """The head of the first request of each connection."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def keys(self) -> list[str]:
        """The idempotency key of each connection's first request."""
        lines = [line for head in self.heads for line in head.split("\r\n")]
        name = "idempotency-key:"
        return [line[len(name) :].strip() for line in lines if line.lower().startswith(name)]

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        step = self.plan.pop(0) if self.plan else None
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode())
                await self._take(step, head, reader, writer)
        finally:
            writer.transport.abort() if step == "restart" else writer.close()

    async def _take(
        self,
        step: bytes | int | str | None,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        match step:
            case bytes():
                # What is left unread when a connection closes resets it, and the answer with it.
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(step)
                await writer.drain()
            case "silence":
                await asyncio.Event().wait()
            case "restart":
                await self._close()
                await asyncio.sleep(0.3)  # the outage itself
                await self._open()
            case _:
                await self._through(head, reader, writer, step if isinstance(step, int) else None)

    async def _through(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cut_after: int | None,
    ) -> None:
        answers, behind = await asyncio.open_connection(self._behind.host, self._behind.port)
        behind.write(head)
        sending = asyncio.create_task(_copy(reader, behind))
        try:
            left = cut_after
            while chunk := await answers.read(1 << 16 if left is None else left):
                writer.write(chunk)
                await writer.drain()
                if left is not None and (left := left - len(chunk)) <= 0:
                    break
        finally:
            sending.cancel()
            behind.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
