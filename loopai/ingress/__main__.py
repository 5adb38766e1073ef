"""`python -m loopai.ingress`: serve the HTTP API until SIGTERM or Ctrl-C, then drain."""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
from typing import TYPE_CHECKING, cast

import structlog
import uvicorn
import uvloop

from loopai import errors, settings
from loopai.ingress import app, server, services
from loopai.observe import logs
from streams import connection, presence

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from loopai.ingress.rpc.server import Server as RpcServer

log = structlog.get_logger()

BACKLOG = 2048


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m loopai.ingress",
        description=__doc__,
        epilog="Settings come from LOOPAI_* variables; docs/reference/settings.md lists them.",
    ).parse_args()
    try:
        known = settings.read(os.environ)
        return uvloop.run(serve(known))
    except (errors.StartupError, connection.BrokerUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(known: settings.Settings) -> int:
    """Serve until asked to stop; 1 when the broker's connection was closed for good."""
    requires = known.auth_required
    instance = f"ingress-{secrets.token_hex(4)}"
    logs.configure(known.log_level, process=instance)
    listener = _bind(known)
    try:
        connected = await connection.connect(
            known.nats_url, name=instance, role="ingress", proof=known.nats_proof
        )
        try:
            async with app.shared(known, connected) as made:
                # Not before: on a shared port, who listens is sent callers that others could serve.
                _listen(listener, known)
                async with presence.shown(connected, pool="ingress", instance=instance):
                    log.info("ingress started", http=known.http, auth=requires)
                    return await _serve(made, connected, listener)
        finally:
            await connected.close()
    finally:
        listener.close()


async def _serve(
    made: services.Services, connected: connection.Connection, listener: socket.socket
) -> int:
    running = server.server(made)
    rpc = _rpc_server(made, running)
    if rpc is not None and (address := made.settings.grpc_address) is not None:
        await rpc.start(*address)
        log.info("gRPC started", grpc=made.settings.grpc)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(running.serve(sockets=[listener]))
    ends = [asyncio.create_task(event.wait()) for event in (stop, connected.closed)]
    await asyncio.wait({serving, *ends}, return_when=asyncio.FIRST_COMPLETED)
    made.hearing.close()
    running.should_exit = True
    # Side by side: neither has less of the time that a drain may take.
    if rpc is not None:
        await rpc.stop(server.DRAIN_S)
    await serving
    for end in ends:
        end.cancel()
    return 0 if stop.is_set() else 1


def _rpc_server(made: services.Services, running: uvicorn.Server) -> "RpcServer | None":
    """Serves the application of *running* over gRPC, where it is asked for. StartupError."""
    if made.settings.grpc_address is None:
        return None
    try:
        from loopai.ingress.rpc.server import Server  # noqa: PLC0415 (an extra, and 20 MB)
    except ModuleNotFoundError as error:
        raise errors.StartupError(
            f"LOOPAI_GRPC={made.settings.grpc!r}: there is no {error.name} here; "
            "pip install 'loopai[grpc]'"
        ) from error
    return Server(made, cast("ASGIApp", running.config.app))


def _bind(known: settings.Settings) -> socket.socket:
    """A socket at the address, not listening yet. StartupError: it is taken or not ours."""
    host, port = known.http_address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.socket(found[0][0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if known.http_shared:
            # Rather than one socket that all inherit: docs/how-to/deploy.md has the measurement.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(found[0][4])
    except OSError as error:
        raise _unusable(known, error) from error
    return listener


def _listen(listener: socket.socket, known: settings.Settings) -> None:
    """StartupError: somebody else listens there since it was bound."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise _unusable(known, error) from error


def _unusable(known: settings.Settings, error: OSError) -> errors.StartupError:
    return errors.StartupError(
        f"cannot listen on {known.http} ({error.strerror}); "
        "stop what uses it, or choose another with --http or LOOPAI_HTTP"
    )


if __name__ == "__main__":
    sys.exit(main())
