"""Waiting for a condition rather than for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.01


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], within_s: float = 15
) -> None:
    """Return once *condition* holds; AssertionError when it does not within *within_s*."""
    ends = time.monotonic() + within_s
    while True:
        held = condition()
        if not isinstance(held, bool):
            held = await held
        if held:
            return
        assert time.monotonic() < ends, f"not within {within_s} s"
        await asyncio.sleep(POLL_S)
