"""Whose turn it is: tenants share by weight, and a tenant's keys share what is its own.

Start-time fair queuing (P. Goyal, H. Vin and H. Cheng, 1996): each tenant has a clock that its
turns move on by their cost over its weight, and the tenant whose clock shows least is next. Deficit
round robin gives the same shares in longer runs, but whoever has the turn spends a round's credit:
hundreds of small messages in a row.
"""

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Generic, TypeVar

ABSENT_MAX: Final = 1024
"""Clocks of tenants with nothing queued that are kept, so that leaving pays no debts."""
ABSENT_KEYS_MAX: Final = 64
"""Likewise of each tenant's keys: strangers may name any number of both."""

E = TypeVar("E")
K = TypeVar("K", bound=Hashable)
N = TypeVar("N", bound=Hashable)


class _Clocks(Generic[N]):
    """The one of several names whose clock shows least; those that are equal take turns."""

    def __init__(self, absent_max: int) -> None:
        self._absent_max = absent_max
        self._heap: list[tuple[float, int, N]] = []
        self._shown: dict[N, float] = {}
        self._absent: dict[N, float] = {}
        self._now = 0.0
        self._turns = 0

    def enter(self, name: N) -> None:
        """*name*, which is not here, wants turns: from now on, or later if it had more before."""
        self._set(name, max(self._now, self._absent.pop(name, 0.0)))

    def next(self, may: Callable[[N], bool]) -> N | None:
        """Whose turn it is, of those that *may*; charge it next. None where none may."""
        passed: list[tuple[float, int, N]] = []
        found = None
        while self._heap:
            shown, _, name = self._heap[0]
            if self._shown.get(name) != shown:
                heapq.heappop(self._heap)  # of a turn before, or gone
            elif may(name):
                found = name
                break
            else:
                passed.append(heapq.heappop(self._heap))
        for each in passed:
            heapq.heappush(self._heap, each)
        return found

    def charge(self, name: N, cost: float, *, stays: bool) -> None:
        """*name* had its turn; whether it *stays* for more."""
        shown = self._shown.pop(name)
        self._now = max(self._now, shown)
        if stays:
            self._set(name, shown + cost)
            return
        self._absent[name] = shown + cost
        if len(self._absent) > self._absent_max:
            self._forget()

    def _forget(self) -> None:
        if not self._shown:
            self._now = max(self._absent.values())
        self._absent = {name: at for name, at in self._absent.items() if at > self._now}
        if len(self._absent) > self._absent_max // 2:
            self._absent.clear()

    def _set(self, name: N, shown: float) -> None:
        self._turns += 1
        self._shown[name] = shown
        heapq.heappush(self._heap, (shown, self._turns, name))


class _Tenant(Generic[K, E]):
    def __init__(self) -> None:
        self.clocks: _Clocks[K] = _Clocks(ABSENT_KEYS_MAX)
        self.waiting: dict[K, deque[tuple[E, float]]] = {}


def anybody(_name: object) -> bool:
    """No bound on who may have a turn."""
    return True


class FairQueue(Generic[K, E]):
    """Entries by tenant and key; `take` gives the next one of the key whose turn it is.

    *weights* of tenants, more than 0; 1 for those that are not there.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._clocks: _Clocks[str] = _Clocks(ABSENT_MAX)
        self._tenants: dict[str, _Tenant[K, E]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, tenant: str, key: K, entry: E, cost: float) -> None:
        """Queue *entry* behind those of the same *key*, which belongs to *tenant*.

        *cost* is what it takes of the tenant's share, more than 0; bytes, say.
        """
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant()
        if not found.waiting:
            self._clocks.enter(tenant)
        waiting = found.waiting.get(key)
        if waiting is None:
            waiting = found.waiting[key] = deque()
            found.clocks.enter(key)
        waiting.append((entry, cost))
        self._count += 1

    def take(
        self, may: Callable[[str], bool] = anybody, may_key: Callable[[K], bool] = anybody
    ) -> E:
        """The first entry of the key whose turn it is, of tenants that *may* and keys that may.

        LookupError when nothing waits that may have a turn.
        """
        keys: dict[str, K] = {}

        def has_turn(tenant: str) -> bool:
            key = self._tenants[tenant].clocks.next(may_key) if may(tenant) else None
            if key is None:
                return False
            keys[tenant] = key
            return True

        name = self._clocks.next(has_turn)
        if name is None:
            raise LookupError("nothing waits")
        tenant, key = self._tenants[name], keys[name]
        waiting = tenant.waiting[key]
        entry, cost = waiting.popleft()
        if not waiting:
            del tenant.waiting[key]
        tenant.clocks.charge(key, cost, stays=bool(waiting))
        self._clocks.charge(name, cost / self._weights.get(name, 1.0), stays=bool(tenant.waiting))
        if not tenant.waiting and len(self._tenants) > ABSENT_MAX:
            del self._tenants[name]
        self._count -= 1
        return entry
