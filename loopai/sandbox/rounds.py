"""The rounds through the cells of a pool: whether idle ones are idle, and what all of them take."""

import asyncio
import collections
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from loopai.sandbox import cell as cell_
from loopai.sandbox import memory

LOOK_S: Final = 1.0
"""Between two rounds."""
LOOKS_MAX: Final = 256
"""Cells looked at in one, 5 µs each. Of more, each has its turn: a thousand within four seconds."""
WEIGH_S: Final = 5.0
"""How often a cell that is in use is weighed at most …"""
WEIGHS_MAX: Final = 32
"""… and how many of them in one round, a millisecond each. Of more, each is weighed less often."""
_LOOKS_A_TURN: Final = 32
"""Then others have theirs."""


class Entry(msgspec.Struct, eq=False):
    """A cell of the pool, and who needs it."""

    cell: cell_.Cell
    users: int = 0
    weight_bytes: int = 0
    """When it was last weighed; 0 before."""
    weighed: float = -WEIGH_S
    changed: bool = False
    """Whether it may have another weight by now."""
    gone: bool = False


class Rounds:
    """Goes round. Idle cells whose weight cannot have changed are not weighed again."""

    def __init__(self) -> None:
        self._weight_bytes = self._blanks_bytes = 0
        self._next: collections.deque[Entry] = collections.deque()
        self._changed: collections.deque[Entry] = collections.deque()

    @property
    def weight_bytes(self) -> int:
        """Of all cells, when each was last weighed, and of blank ones."""
        return self._weight_bytes + self._blanks_bytes

    def add(self, entry: Entry) -> None:
        # In front: the weight of a new one is not known at all.
        self._next.appendleft(entry)
        self._changed.appendleft(entry)
        entry.changed = True

    def change(self, entry: Entry) -> None:
        """It was used, or gave back memory."""
        if not entry.changed:
            entry.changed = True
            self._changed.append(entry)

    def drop(self, entry: Entry) -> None:
        entry.gone = True
        self._weight_bytes -= entry.weight_bytes

    async def look(self) -> None:
        """End what runs on its own in idle cells, and have those rest that may."""
        looked = 0
        for _ in range(len(self._next)):
            entry = self._next.popleft()
            if entry.gone:
                continue
            self._next.append(entry)
            if entry.users == 0:
                entry.cell.end_the_busy()
                if await entry.cell.rest():
                    self.change(entry)
            looked += 1
            if looked == LOOKS_MAX:
                return
            if looked % _LOOKS_A_TURN == 0:
                await asyncio.sleep(0)

    async def weigh(self, blanks: Sequence[int]) -> None:
        """Weigh cells that may have changed, who has waited longest first; with them *blanks*."""
        due = self._due(time.monotonic())
        if not due:
            return
        pids = [blanks, *(entry.cell.pids for entry in due)]
        self._blanks_bytes, *weights = await asyncio.to_thread(_weighed, pids)
        for entry, weight_bytes in zip(due, weights, strict=True):
            if not entry.gone:
                self._weight_bytes += weight_bytes - entry.weight_bytes
                entry.weight_bytes = weight_bytes

    def _due(self, now: float) -> list[Entry]:
        found: list[Entry] = []
        for _ in range(len(self._changed)):
            entry = self._changed.popleft()
            if entry.gone:
                continue
            if now - entry.weighed < WEIGH_S:
                self._changed.append(entry)
                continue
            entry.weighed, entry.changed = now, False
            found.append(entry)
            if entry.users:
                self.change(entry)
            if len(found) == WEIGHS_MAX:
                break
        return found


def _weighed(pids: Sequence[Sequence[int]]) -> list[int]:
    return [memory.used(each) for each in pids]
