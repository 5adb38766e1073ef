"""One Starlette endpoint on the uvicorn settings of `loopai.ingress`."""

import contextlib
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/execute"
BACKLOG = 2048

Endpoint = Callable[[Request], Awaitable[Response]]
Call = Callable[[dict[str, int]], Awaitable[int]]
"""Submits an input and awaits its output, without blocking the event loop."""


async def serve(endpoint: Endpoint) -> None:
    """Serve *endpoint* on a free port until SIGTERM; the first line on stdout is its address."""
    application = Starlette(routes=[Route(PATH, endpoint, methods=["POST"])])
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http="httptools",
            loop="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
        )
    )
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        host, port = listener.getsockname()
        print(f"http://{host}:{port}{PATH}", flush=True)
        await server.serve(sockets=[listener])
