"""The one way to end a task: told again until it has ended."""

import asyncio
from typing import Any, Final

AGAIN_S: Final = 1.0
"""How long a task that was told to end has for its own clean-up before it is told again."""


async def end(*tasks: asyncio.Task[Any]) -> None:  # Any: whatever they return is dropped
    """Cancel *tasks* and return once all have ended, whatever they came to.

    One `cancel` is not enough: where the answer that a task waits for arrives in the same turn of
    the loop, `asyncio.wait_for` of Python 3.11, by which the bus client waits, returns the answer
    and the cancellation is gone (python/cpython#86296). A task that goes round would do so for
    ever, and whoever waits for its end with it.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: nobody else asks for it
