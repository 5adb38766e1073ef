"""Posts that end only at addresses that were checked: the check is part of connecting.

A name is resolved once for each connection, every address that it has is checked, and the
connection goes to one of those very addresses, so that a resolver which answers differently the
next time changes nothing. TLS and the Host header keep the name.
"""

import asyncio
import concurrent.futures
import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpcore
import httpx
import msgspec

from loopai.webhooks import addresses

CONNECT_S: Final = 5.0
POST_S: Final = 10.0
"""For all of it: to connect, to send, and to read what is read of the answer."""
RESPONSE_BYTES_MAX: Final = 4_096
"""Of an answer's body no more is read."""
IDLE_S: Final = 5.0
"""How long a connection is kept for the next post."""
CONNECTIONS_MAX: Final = 128
RESOLVERS_MAX: Final = 128
"""Names that are asked for at once: more than one tenant's posts, each of which may leave some
behind that wait for a silent server."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as text. OSError."""


class Refused(Exception):  # noqa: N818 (it says what is the matter)
    """The host has an address that must not be called."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    retry_after: str | None
    body: bytes
    """Its first `RESPONSE_BYTES_MAX`."""


class Resolver:
    """Asks as the system does, in threads of its own.

    A name server that does not answer holds a thread for longer than a post may take: in the few
    that the loop has, it would hold up everybody.
    """

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(RESOLVERS_MAX, "resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Backend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, allowed: Sequence[addresses.Network], resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # Any: httpcore's own alias of tuples
    ) -> httpcore.AsyncNetworkStream:
        try:
            found = [ipaddress.ip_address(each) for each in await self._resolve(host, port)]
        except (OSError, UnicodeError, ValueError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        for address in found:
            reason = addresses.refusal(address, self._allowed)
            if reason is not None:
                raise Refused(f"{host} has an address that may not be called: {reason}")
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in found:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    async def connect_unix_socket(
        self, path: str, *_: Any, **__: Any
    ) -> httpcore.AsyncNetworkStream:  # Any: never looked at
        raise Refused(f"{path}: no webhook is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Poster:
    """Posts without following redirects, and without proxies. Use it as a context manager."""

    def __init__(
        self,
        allowed: Sequence[addresses.Network] = (),
        *,
        resolve: Resolve | None = None,
        post_s: float = POST_S,
    ) -> None:
        self._post_s = post_s
        self._resolver = Resolver()
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S,
            network_backend=Backend(allowed, resolve or self._resolver),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.aclose()
        self._resolver.close()

    async def post(self, url: httpx.URL, headers: dict[str, str], body: bytes) -> Answer:
        """What the endpoint answers. Refused, TimeoutError, OSError or httpcore's errors."""
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        times = dict.fromkeys(("read", "write", "pool"), self._post_s)
        async with (
            asyncio.timeout(self._post_s),
            self._pool.stream(
                "POST",
                target,
                # Not compressed: a little of it must not unpack to a lot.
                headers=[*headers.items(), ("accept", "*/*"), ("accept-encoding", "identity")],
                content=body,
                extensions={"timeout": {**times, "connect": min(CONNECT_S, self._post_s)}},
            ) as response,
        ):
            start = await _start(response)
            named = {name.lower(): value for name, value in response.headers}
            after = named.get(b"retry-after")
            return Answer(
                status=response.status,
                retry_after=None if after is None else after.decode("latin-1"),
                body=start,
            )


async def _start(response: httpcore.Response) -> bytes:
    found = b""
    async for piece in response.aiter_stream():
        found += piece
        if len(found) >= RESPONSE_BYTES_MAX:
            break
    return found[:RESPONSE_BYTES_MAX]
