"""Sends requests, again where that may help, and reads answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, Self, TypeVar

import httpx
import msgspec

from loopai_client import errors, requests, retries
from loopai_client.settings import Settings
from loopai_client.version import __version__

CONNECT_S: Final = 10.0
"""A server that takes longer to accept a connection is not there."""
SPARE_S: Final = 5.0
"""How much longer than the server may take a caller waits for its answer."""
CONNECTIONS_MAX: Final = 100
OK_MOST: Final = 299

T = TypeVar("T")

if TYPE_CHECKING:
    from loopai_client.aio.rpc import Rpc


class Transport:
    """One pool of connections; close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        headers = {"User-Agent": f"loopai-client/{__version__} (python)"}
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key}"
        self._rpc = _rpc(settings)
        self._http = httpx.AsyncClient(
            base_url=settings.url,
            headers=headers,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def aclose(self) -> None:
        if self._rpc is not None:
            await self._rpc.aclose()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def attempts(self, least_s: float = 0.0) -> retries.Attempts:
        """Attempts within the deadline, or within *least_s* and some where that is longer."""
        spared_s = least_s + SPARE_S if least_s else 0.0
        return retries.Attempts(
            self._settings.max_retries, max(self._settings.deadline_s, spared_s)
        )

    async def send(self, request: requests.Request, into: type[T]) -> T:
        """The answer to *request*, decoded."""
        content = await self.read(request)
        try:
            return msgspec.json.decode(content, type=into)
        except msgspec.MsgspecError as error:
            raise errors.LoopaiError(
                f"not what Loopai answers at {request.path}: {error}"
            ) from error

    async def read(self, request: requests.Request) -> bytes:
        """The body of the answer to *request*, after as many attempts as it takes."""
        request = self._keyed(request)
        attempts = self.attempts(request.least_s)
        while True:
            try:
                return await self._attempt(request, attempts)
            except errors.LoopaiError as error:
                pause_s = attempts.pause_s(error)
            await asyncio.sleep(pause_s)

    @contextlib.asynccontextmanager
    async def opened(
        self, request: requests.Request, read_s: float
    ) -> AsyncIterator[httpx.Response]:
        """One attempt at *request*, its body still to be read; silence of *read_s* ends it."""
        timeout = httpx.Timeout(read_s, connect=min(CONNECT_S, read_s))
        try:
            async with self._http.stream(
                request.method,
                request.path,
                params=request.query,
                headers=request.headers,
                content=request.content,
                timeout=timeout,
            ) as response:
                if response.status_code > OK_MOST:
                    raise errors.of(
                        response.status_code,
                        await response.aread(),
                        retries.retry_after_s(response.headers.get("retry-after")),
                    )
                yield response
        except (httpx.TransportError, httpx.DecodingError) as error:
            text = str(error) or type(error).__name__
            raise errors.ConnectionFailed(f"{request.method} {request.path}: {text}") from error

    async def _attempt(self, request: requests.Request, attempts: retries.Attempts) -> bytes:
        if self._rpc is not None:
            answered = await self._rpc.ask(request, attempts.remaining_s)
            if answered is not None:
                return answered
        chunks = []
        async with self.opened(request, attempts.remaining_s) as response:
            async for chunk in response.aiter_bytes():
                chunks.append(chunk)
                # A server that sends a byte now and then is never silent: look at the clock.
                _ = attempts.remaining_s
        return b"".join(chunks)

    def _keyed(self, request: requests.Request) -> requests.Request:
        """A POST gets an idempotency key, so that sending it twice does it once."""
        key = "Idempotency-Key"
        if request.method != "POST" or not self._settings.max_retries or key in request.headers:
            return request
        headers = {**request.headers, key: requests.new_key()}
        return msgspec.structs.replace(request, headers=headers)


def _rpc(settings: Settings) -> "Rpc | None":
    """What asks over gRPC, where that is wanted and installed."""
    if settings.grpc is None:
        return None
    try:
        from loopai_client.aio.rpc import Rpc  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError:
        return None
    return Rpc(settings.grpc, settings.api_key)
