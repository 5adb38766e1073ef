"""Whose turn it is: deficit round robin between tenants by weight, and between a tenant's tasks.

M. Shreedhar and G. Varghese, "Efficient fair queuing using deficit round robin", 1995. Here a turn
may overdraw its credit, which later turns pay back, so that a turn can always be taken whole.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

QUANTUM: Final = 64 * 1024
"""Cost that one round gives each tenant, times its weight."""


class Weighed(Protocol):
    """What can be queued."""

    @property
    def count(self) -> int:
        """Items in it, at least 1."""

    @property
    def cost(self) -> int:
        """What it takes from its tenant's credit, more than 0; bytes, say."""


E = TypeVar("E", bound=Weighed)
K = TypeVar("K", bound=Hashable)


class _Tenant(Generic[K, E]):
    def __init__(self) -> None:
        self.credit = 0
        self.tasks: dict[K, deque[E]] = {}


class FairQueue(Generic[K, E]):
    """Entries by tenant and key; `take` gives the next ones of the key whose turn it is."""

    def __init__(self, weight: Callable[[str], int] = lambda _tenant: 1) -> None:
        self._weight = weight
        # Dicts keep order: the first is the one served longest ago.
        self._tenants: dict[str, _Tenant[K, E]] = {}
        self.cost = 0
        """Of all that waits."""

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def push(self, tenant: str, key: K, entry: E) -> None:
        """Queue *entry* behind those of the same *key*, which belongs to *tenant*."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant()
        waiting = found.tasks.get(key)
        if waiting is None:
            waiting = found.tasks[key] = deque()
        waiting.append(entry)
        self.cost += entry.cost

    def take(self, *, count_max: int, cost_max: int) -> tuple[K, list[E]]:
        """The key whose turn it is and its first entries: one at least, more within the bounds.

        LookupError when nothing waits.
        """
        if not self._tenants:
            raise LookupError("nothing waits")
        name, tenant = self._turn()
        key = next(iter(tenant.tasks))
        waiting = tenant.tasks.pop(key)
        taken = [waiting.popleft()]
        count, cost = taken[0].count, taken[0].cost
        while waiting:
            following = waiting[0]
            if count + following.count > count_max or cost + following.cost > cost_max:
                break
            taken.append(waiting.popleft())
            count += following.count
            cost += following.cost
        if waiting:
            tenant.tasks[key] = waiting
        elif not tenant.tasks:
            del self._tenants[name]
        tenant.credit -= cost
        self.cost -= cost
        return key, taken

    def _turn(self) -> tuple[str, _Tenant[K, E]]:
        if len(self._tenants) == 1:
            name, tenant = next(iter(self._tenants.items()))
            # Whoever is alone has nobody to pay back: a later one must not find it in debt.
            tenant.credit = 0
            return name, tenant
        while True:
            name, tenant = next(iter(self._tenants.items()))
            if tenant.credit > 0:
                return name, tenant
            tenant.credit += QUANTUM * self._weight(name)
            del self._tenants[name]
            self._tenants[name] = tenant
