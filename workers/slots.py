"""Which delivery has the next slot: interactive before bulk, tenants by weight, tasks in turn.

What has a turn holds its slot until it is released. Bulk never takes the last slots, and only a few
while there is interactive work about; but it waits for no more than `BULK_WAIT_S` beside it.
Pure: times are arguments.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import msgspec

from streams import fair
from streams.messages import Lane

BULK_WAIT_S: Final = 0.25
"""Bulk that waited for so long has the next turn, whatever else waits."""
INTERACTIVE_S: Final = 1.0
"""After interactive work, more of it is expected for so long."""
BULK_SHARE: Final = 16
"""Meanwhile bulk gets one slot of so many, and at least one."""
RESERVED_SHARE: Final = 8
"""One slot of so many is never bulk's, and of two or more at least one."""

T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker handles at once."""

    slots: int
    tenant_running_max: int | None = None
    """Of one tenant; None: no bound but the slots."""
    task_running_max: int | None = None
    """Of one task in one lane; likewise."""
    weights: Mapping[str, float] = {}
    """Shares of tenants that compete; 1 for those that are not here."""


class Turn(msgspec.Struct, Generic[T], frozen=True, eq=False, kw_only=True):
    """Something that waits for a slot, or holds one."""

    lane: Lane
    tenant: str
    task: str
    """One task in one lane, whichever queues it waits in."""
    cost: int
    """What it takes of its tenant's share; bytes."""
    what: T


class Slots(Generic[T]):
    """Push what came, take what may begin, release what has ended."""

    def __init__(self, limits: Limits) -> None:
        self._slots = limits.slots
        self._tenant_max = limits.tenant_running_max or limits.slots
        self._task_max = limits.task_running_max or limits.slots
        self._waiting: dict[Lane, fair.FairQueue[str, Turn[T]]] = {
            "interactive": fair.FairQueue(limits.weights),
            "bulk": fair.FairQueue(limits.weights),
        }
        self._running: Counter[Lane] = Counter()
        self._tenants: Counter[str] = Counter()
        self._tasks: Counter[str] = Counter()
        self._interactive_at = float("-inf")
        self._bulk_since = float("-inf")

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def push(self, turn: Turn[T], now: float) -> None:
        """Let *turn* wait behind those of the same task."""
        if turn.lane == "interactive":
            self._interactive_at = now
        elif not self._waiting["bulk"]:
            self._bulk_since = now
        self._waiting[turn.lane].push(turn.tenant, turn.task, turn, turn.cost)

    def take(self, now: float) -> Turn[T] | None:
        """What may begin now; None while nothing may."""
        if self._running.total() >= self._slots:
            return None
        overdue = bool(self._waiting["bulk"]) and now - self._bulk_since >= BULK_WAIT_S
        order: tuple[Lane, ...] = ("bulk", "interactive") if overdue else ("interactive", "bulk")
        for lane in order:
            if lane == "bulk" and self._running["bulk"] >= self._bulk_max(now):
                continue
            try:
                turn = self._waiting[lane].take(self._may, self._may_task)
            except LookupError:
                continue
            if lane == "bulk":
                self._bulk_since = now
            self._running[lane] += 1
            self._tenants[turn.tenant] += 1
            self._tasks[turn.task] += 1
            return turn
        return None

    def release(self, turn: Turn[T], now: float) -> None:
        """*turn* has ended."""
        self._running[turn.lane] -= 1
        for counted, name in ((self._tenants, turn.tenant), (self._tasks, turn.task)):
            counted[name] -= 1
            if not counted[name]:
                del counted[name]  # names come and go: none must stay
        if turn.lane == "interactive":
            self._interactive_at = now

    def _may(self, tenant: str) -> bool:
        return self._tenants[tenant] < self._tenant_max

    def _may_task(self, task: str) -> bool:
        return self._tasks[task] < self._task_max

    def _bulk_max(self, now: float) -> int:
        quiet = not self._running["interactive"] and now - self._interactive_at >= INTERACTIVE_S
        share = self._slots - reserved(self._slots) if quiet else self._slots // BULK_SHARE
        return max(1, share)


def reserved(slots: int) -> int:
    """Slots of a worker that bulk never takes."""
    return 0 if slots == 1 else max(1, slots // RESERVED_SHARE)
