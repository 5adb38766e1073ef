"""The API over gRPC, served beside HTTP by the same process."""

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from starlette.types import ASGIApp

from loopai import errors
from loopai.ingress import services
from loopai.ingress.rpc import calls, inward, loopai_pb2, streams

SERVICE: Final = loopai_pb2.DESCRIPTOR.services_by_name["Loopai"].full_name
SPARE_BYTES: Final = 64 * 1024
"""Of a message beside what is checked by size: what is only little too large is told properly."""
STREAMS_MAX: Final = 1_024
"""Calls of one connection at once; its others wait at the client."""
METADATA_BYTES_MAX: Final = 16 * 1024
PING_S: Final = 60
"""Silence of a connection with calls after which it is asked whether it is alive."""
PONG_S: Final = 20
PING_LEAST_S: Final = 10
"""Who pings more often, and sends nothing else, is told to go away (ENHANCE_YOUR_CALM)."""
IDLE_S: Final = 300
"""A connection without calls is closed."""


class Server:
    """Made by `start`, ended by `stop`, before what it shares is closed."""

    def __init__(self, shared: services.Services, application: ASGIApp) -> None:
        known = shared.settings
        self._inside = inward.Inside(application)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=_options(shared),
            # Executions beyond that are OVERLOADED already; this holds for whatever else waits.
            maximum_concurrent_rpcs=2 * known.waiting_max,
        )
        one = calls.Calls(shared, self._inside)
        many = streams.Streams(shared, self._inside)
        # Without serializers: bytes that are no message are then ours to refuse.
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {  # any: none of them is coded
            "Execute": grpc.unary_unary_rpc_method_handler(one.execute),
            "Generate": grpc.unary_unary_rpc_method_handler(one.generate),
            "ExecuteBatch": grpc.stream_stream_rpc_method_handler(many.execute_batch),
            "Watch": grpc.unary_stream_rpc_method_handler(many.watch),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, host: str, port: int) -> int:
        """Serve there; the port, which is chosen where *port* is 0. StartupError."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise errors.StartupError(
                f"cannot listen on {address}, for gRPC; stop what uses it, or choose another with "
                "LOOPAI_GRPC"
            ) from error
        await self._server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def stop(self, within_s: float) -> None:
        """Take on nothing more; calls end in *within_s*, or are ended."""
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._server.stop(within_s), self._inside.drain(within_s))


def _options(shared: services.Services) -> list[tuple[str, int]]:
    known = shared.settings
    return [
        ("grpc.so_reuseport", int(known.http_shared)),
        ("grpc.max_receive_message_length", known.body_bytes_max + SPARE_BYTES),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        # Else a connection that fills up is refused calls before it has as many as it may.
        ("grpc.http.overload_protection", 0),
        # Of calls that have come and wait for their turn; from the first on, some are refused.
        ("grpc.server.max_pending_requests", known.waiting_max),
        ("grpc.server.max_pending_requests_hard_limit", 2 * known.waiting_max),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", PING_S * 1000),
        ("grpc.keepalive_timeout_ms", PONG_S * 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_LEAST_S * 1000),
        ("grpc.max_connection_idle_ms", IDLE_S * 1000),
    ]
