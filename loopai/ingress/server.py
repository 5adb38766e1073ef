"""How the ingress is served: uvicorn, with a protocol that knows the hot path."""

import contextlib
import functools
from typing import Final

import uvicorn

from loopai.ingress import app, protocol, services

DRAIN_S: Final = 8
KEEP_ALIVE_S: Final = 75


def server(made: services.Services, *, drain_s: int = DRAIN_S) -> uvicorn.Server:
    """A server of *made*, which its caller closes after it. Set `should_exit` to end it."""
    server = uvicorn.Server(
        uvicorn.Config(
            app.build(made),
            http=functools.partial(protocol.Protocol, made),  # type: ignore[arg-type]  # as called
            loop="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=drain_s,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )
    # uvicorn would raise the signal again when it has drained, before the rest is closed.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
    return server
