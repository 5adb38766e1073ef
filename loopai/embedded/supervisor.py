"""Keeps children alive: a clear end when one does not start, a restart when one dies later."""

import asyncio
import time
from typing import Final, NoReturn, Protocol

from loopai import errors
from loopai.embedded import process
from loopai.embedded.program import Say
from streams import ending

RESTART_S_MIN: Final = 0.5
RESTART_S_MAX: Final = 30.0
STEADY_S: Final = 60.0
"""A child that lived this long starts again with the shortest delay."""
NAME: Final = "loopai"


class Child(Protocol):
    name: str
    reason: str
    """Why it ended, in its own words."""

    async def start(self) -> None: ...
    async def exited(self) -> int: ...
    async def stop(self, grace_s: float) -> None: ...
    def kill(self) -> None: ...


class Supervisor:
    """Starts children in the order given and stops them in reverse, a group at a time."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._groups: list[list[Child]] = []
        self._watches: set[asyncio.Task[NoReturn]] = set()
        self._settled = False

    async def start(self, *children: Child) -> None:
        """Start *children* as one group; they stop together, before those of earlier groups."""
        group: list[Child] = []
        self._groups.append(group)
        for child in children:
            group.append(child)
            await child.start()
            self._watches.add(asyncio.create_task(self._watch(child)))

    def settle(self) -> None:
        """From now on a child that ends is started again. Before, its end is a StartupError."""
        self._settled = True

    async def watch(self) -> NoReturn:
        """Wait for ever; StartupError when a child ends before `settle`."""
        done, _ = await asyncio.wait(self._watches, return_when=asyncio.FIRST_COMPLETED)
        raise done.pop().exception() or AssertionError("a watch does not end")

    async def stop(self, grace_s: float) -> None:
        """Stop all children, the last group first; SIGKILL for one that takes over *grace_s*."""
        await ending.end(*self._watches)
        for group in reversed(self._groups):
            await asyncio.gather(*(child.stop(grace_s) for child in group))
        self._groups.clear()

    def kill(self) -> None:
        """SIGKILL to every child; a `stop` under way then ends at once."""
        for group in self._groups:
            for child in group:
                child.kill()

    async def _watch(self, child: Child) -> NoReturn:
        delay_s = RESTART_S_MIN
        while True:
            started = time.monotonic()
            status = await child.exited()
            if not self._settled:
                raise errors.StartupError(f"{child.name} did not start: {child.reason}")
            if time.monotonic() - started > STEADY_S:
                delay_s = RESTART_S_MIN
            ended = process.describe(status)
            self._say(NAME, f"{child.name} ended ({ended}); it starts again in {delay_s:g} s")
            delay_s = await self._restart(child, delay_s)

    async def _restart(self, child: Child, delay_s: float) -> float:
        """Start *child* after *delay_s*, as often as it takes; the delay of the next restart."""
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RESTART_S_MAX)
            try:
                await child.start()
            except (errors.StartupError, OSError) as error:
                self._say(NAME, f"{child.name}: {error}; it is tried again in {delay_s:g} s")
            else:
                return delay_s
