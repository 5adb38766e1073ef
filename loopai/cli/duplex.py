"""One HTTP request whose answer comes while its body is still being sent, which httpx cannot do.

It goes straight to the server, through no proxy.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

import httptools

from loopai.cli import api, failure
from streams import ending

PIECE_BYTES: Final = 64 * 1024
"""Read at once, of the body as of the answer: what a pipe holds."""
CONNECT_S: Final = 10.0
OK: Final = 200


class _Answer:
    """What httptools finds in the answer: given on if all is well, kept where it is a problem."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.parser = httptools.HttpResponseParser(self)
        self.problem = bytearray()
        self.ended = False

    def on_body(self, piece: bytes) -> None:
        if self.parser.get_status_code() == OK:
            self._take(piece)
        else:
            self.problem += piece

    def on_message_complete(self) -> None:
        self.ended = True


async def post(
    url: str, path: str, media_type: str, body: AsyncIterator[bytes], take: Callable[[bytes], None]
) -> bool:
    """Send *body* and give each piece of the answer to *take*; False where it broke off. Failure.

    What *body* and *take* raise comes out of here.
    """
    base = api.parsed(url)
    head = {
        "Host": base.netloc.decode(),
        "Content-Type": media_type,
        "Transfer-Encoding": "chunked",
        "Connection": "close",
        **api.credentials(),
    }
    prefix = base.raw_path.partition(b"?")[0].decode().rstrip("/")
    lines = [f"POST {prefix}{path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in head.items()]
    is_secure = base.scheme == "https"
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                base.host, base.port or (443 if is_secure else 80), ssl=is_secure or None
            )
    except (OSError, TimeoutError) as error:
        raise api.nobody(url) from error
    writer.write("\r\n".join([*lines, "", ""]).encode())
    sending = asyncio.create_task(_send(writer, body))
    try:
        answer = _Answer(take)
        await _receive(reader, answer)
        if sending.done() and not sending.cancelled():
            sending.result()
    finally:
        await ending.end(sending)
        writer.close()
    if answer.problem:
        raise failure.Failure(api.explain(answer.parser.get_status_code(), bytes(answer.problem)))
    return answer.ended


async def _receive(reader: asyncio.StreamReader, answer: _Answer) -> None:
    try:
        while not answer.ended and (piece := await reader.read(PIECE_BYTES)):
            answer.parser.feed_data(piece)
    except ConnectionError:
        return  # it broke off: `ended` says so
    except httptools.HttpParserError as error:
        # What `take` raises comes as its cause.
        if error.__context__ is not None:
            raise error.__context__ from None
        raise failure.Failure(f"the server's answer is not Loopai's: {error}") from error


async def _send(writer: asyncio.StreamWriter, body: AsyncIterator[bytes]) -> None:
    try:
        async for piece in body:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except ConnectionError:
        return  # a server that has answered need not hear the rest
    except Exception:
        # Who waits for the answer hears of it.
        writer.transport.abort()
        raise


async def pieces(descriptor: int) -> AsyncIterator[bytes]:
    """What comes from *descriptor*, a file, a pipe or a terminal, until its end."""
    while piece := await _read(descriptor):
        yield piece


async def _read(descriptor: int) -> bytes:
    """In a thread that nobody waits for: Ctrl-C must end a command whose stdin says nothing."""
    loop = asyncio.get_running_loop()
    come: asyncio.Future[bytes] = loop.create_future()

    def settle(piece: bytes, error: OSError | None) -> None:
        if come.done():
            return
        if error is None:
            come.set_result(piece)
        else:
            come.set_exception(failure.Usage(f"the items cannot be read: {error.strerror}"))

    def work() -> None:
        piece, wrong = b"", None
        try:
            piece = os.read(descriptor, PIECE_BYTES)
        except OSError as error:
            wrong = error
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, piece, wrong)

    threading.Thread(target=work, daemon=True).start()
    return await come
