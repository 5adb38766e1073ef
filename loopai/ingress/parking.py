"""Connections that were refused for want of room are not read until there is some.

A client that comes again at once, whatever `Retry-After` says, would otherwise cost as much as one
that is served: 8,000 connections at twice what can be answered left an ingress no time to answer
anybody. What they send meanwhile waits in their sockets.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

PARKED_S: Final = 1.0
"""At most: what a refusal says in `Retry-After`."""
SWEEP_S: Final = 0.1


class Connection(Protocol):
    """What is parked: it is not read, until it is told that it may be."""

    def leave_parking(self) -> None: ...


class Parking:
    """First in, first out. Closed by its maker."""

    def __init__(self) -> None:
        self._parked: deque[tuple[float, Connection]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, connection: Connection) -> None:
        """Tell *connection* when there is room, or when it has waited for `PARKED_S`."""
        loop = asyncio.get_running_loop()
        self._parked.append((loop.time() + PARKED_S, connection))
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_S, self._sweep)

    def admit(self, count: int) -> None:
        """There is room for *count* more."""
        for _ in range(min(count, len(self._parked))):
            self._parked.popleft()[1].leave_parking()

    def close(self) -> None:
        """All may be read again."""
        self.admit(len(self._parked))
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._parked and self._parked[0][0] <= now:
            self.admit(1)
        self._sweeping = loop.call_later(SWEEP_S, self._sweep) if self._parked else None
