"""`python -m loopai.ingress`: serve the HTTP API until SIGTERM or Ctrl-C, then drain."""

import argparse
import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys

import uvicorn
import uvloop

from loopai import errors, settings
from loopai.ingress import app, protocol, services
from loopai.observe import logs
from streams import connection

BACKLOG = 2048
DRAIN_S = 8


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m loopai.ingress",
        description=__doc__,
        epilog="Settings come from LOOPAI_* variables; docs/reference/settings.md lists them.",
    ).parse_args()
    try:
        known = settings.read(os.environ)
        logs.configure(known.log_level, process="ingress")
        return uvloop.run(serve(known))
    except (errors.StartupError, connection.BrokerUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(known: settings.Settings) -> int:
    """Serve until asked to stop; 1 when the broker's connection was closed for good."""
    listener = _listen(*known.http_address)
    try:
        connected = await connection.connect(known.nats_url, name="ingress")
        try:
            async with app.shared(known, connected) as made:
                return await _serve(made, connected, listener)
        finally:
            await connected.close()
    finally:
        listener.close()


async def _serve(
    made: services.Services, connected: connection.Connection, listener: socket.socket
) -> int:
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
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=75,
        )
    )
    # uvicorn would raise the signal again when it has drained, before we have closed the rest.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ends = [asyncio.create_task(event.wait()) for event in (stop, connected.closed)]
    await asyncio.wait({serving, *ends}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    for end in ends:
        end.cancel()
    return 0 if stop.is_set() else 1


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. StartupError when the address is taken or not ours."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.socket(found[0][0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[0][4])
        listener.listen(BACKLOG)
    except OSError as error:
        raise errors.StartupError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "stop what uses it, or choose another with --http or LOOPAI_HTTP"
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
