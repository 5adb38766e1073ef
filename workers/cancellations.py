"""Executions that nobody wants any more: known here as the bus has them, and passed on to cells."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from loopai.catalog import mirror
from loopai.sandbox import recall
from streams import codec, store, topology
from streams.connection import Connection
from streams.messages import Cancellation, ExecuteItem

_NONE: Final[frozenset[str]] = frozenset()


class Cancellations:
    """The bucket in memory, and the calls that are under way here. Open with `opened`."""

    def __init__(self, connection: Connection) -> None:
        self._asked = mirror.Mirror(
            connection, topology.CANCELLATIONS, codec.CANCELLATION, on_change=self._heard
        )
        self._running: set[Reach] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Cancellations"]:
        """Watch while inside; what was asked for earlier is known on entry."""
        try:
            await self._asked.start()
            yield self
        finally:
            await self._asked.stop()

    def among(self, tenant: str, items: Sequence[ExecuteItem]) -> frozenset[str]:
        """Ids of those of *items*, of *tenant*, that are cancelled."""
        asked = self._asked.entries
        if not asked:
            return _NONE
        found = (item.id for item in items if item.id in asked)
        return frozenset(each for each in found if asked[each].value.tenant == tenant)

    def reaching(self, tenant: str, items: Sequence[ExecuteItem]) -> "Reach":
        """A context in which cancellations reach *items*, of *tenant*, in their cell."""
        return Reach(self, tenant, items)

    def begin(self, call: "Reach") -> None:
        self._running.add(call)
        for execution_id in self.among(call.tenant, call.items):
            call.cancel(execution_id)

    def end(self, call: "Reach") -> None:
        self._running.discard(call)

    def _heard(self, change: store.Change[Cancellation]) -> None:
        if change.value is None:
            return
        for call in self._running:
            if call.tenant == change.value.tenant:
                call.cancel(change.key)


class Reach:
    """One call of a cell. Inside it gives the recall of its items, by their index."""

    __slots__ = ("_owner", "_places", "_recalled", "items", "tenant")

    def __init__(self, owner: Cancellations, tenant: str, items: Sequence[ExecuteItem]) -> None:
        self._owner = owner
        self._places: dict[str, int] | None = None
        """Indices by id, once somebody asks: most calls end without a cancellation anywhere."""
        self._recalled = recall.Recall()
        self.tenant = tenant
        self.items = items

    # Not a generator: 2 µs of every delivery.
    def __enter__(self) -> recall.Recall:
        self._owner.begin(self)
        return self._recalled

    def __exit__(self, *_: object) -> None:
        self._owner.end(self)

    def cancel(self, execution_id: str) -> None:
        """Call the item of this id back, if it is one of these."""
        if self._places is None:
            self._places = {item.id: index for index, item in enumerate(self.items)}
        index = self._places.get(execution_id)
        if index is not None:
            self._recalled.add(index)
