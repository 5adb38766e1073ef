"""Connections of gRPC."""

from typing import Any

import grpc


def channel(target: str, credentials: Any, options: list[tuple[str, int]]) -> grpc.Channel:
    """A channel to *target*, with TLS where there are *credentials*."""
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


def ready(opened: grpc.Channel, within_s: float) -> bool:
    """Whether it is connected, or is *within_s*."""
    try:
        grpc.channel_ready_future(opened).result(timeout=within_s)
    except grpc.FutureTimeoutError:
        return False
    return True


def replies(stream: Any) -> list[Any]:  # any: messages of several types
    """All that comes of *stream*. grpc.RpcError."""
    return list(stream)
