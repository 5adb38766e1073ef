"""A client that writes lines and reads results at the same time, and can do either badly."""

import asyncio
from typing import Any, Self

import httpx
import msgspec

PATH = "/api/v1/batch/execute"


class Stream:
    """One batch as NDJSON, in chunked encoding both ways. Close it with `leave`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self._rest = b""

    @classmethod
    async def opened(cls, url: httpx.URL, headers: str = "", **query: Any) -> Self:
        """A stream with its head sent; *headers* are lines of their own."""
        reader, writer = await asyncio.open_connection(url.host, url.port)
        asked = httpx.QueryParams({"task_id": "upper", **query})
        writer.write(
            f"POST {PATH}?{asked} HTTP/1.1\r\nhost: {url.host}\r\n{headers}"
            "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        return cls(reader, writer)

    async def send(self, *lines: object) -> None:
        """Write items, or lines as they are where they are bytes; and wait as the peer asks."""
        text = b"".join(
            line if isinstance(line, bytes) else msgspec.json.encode(line) + b"\n" for line in lines
        )
        self.writer.write(b"%x\r\n%b\r\n" % (len(text), text))
        await self.writer.drain()

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def head(self) -> None:
        """Read the status and the headers of the answer."""
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines if line)

    async def next(self) -> dict[str, Any]:
        """The next line of the answer. EOFError behind the last."""
        if not self.status:
            await self.head()
        while b"\n" not in self._rest:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            self._rest += (await self.reader.readexactly(size + 2))[:-2]
            if not size:
                raise EOFError
        line, self._rest = self._rest.split(b"\n", 1)
        found: dict[str, Any] = msgspec.json.decode(line)
        return found

    async def rest(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """All results that are left, and the last line."""
        found = []
        while "summary" not in (line := await self.next()):
            found.append(line)
        return found, line

    def leave(self) -> None:
        """Close the connection at once, whatever is under way."""
        self.writer.transport.abort()
