"""Connections of gRPC."""

import asyncio
from typing import Any

import grpc


def channel(target: str, credentials: Any, options: list[tuple[str, int]]) -> grpc.aio.Channel:
    """A channel to *target*, with TLS where there are *credentials*."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


async def ready(opened: grpc.aio.Channel, within_s: float) -> bool:
    """Whether it is connected, or is *within_s*."""
    try:
        async with asyncio.timeout(within_s):
            await opened.channel_ready()
    except TimeoutError:
        return False
    return True


async def replies(stream: Any) -> list[Any]:  # any: messages of several types
    """All that comes of *stream*. grpc.RpcError."""
    return [each async for each in stream]
