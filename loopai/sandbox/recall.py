"""Calling items back: what a caller may do to its call of `CellPool.run` while that goes on."""

from collections.abc import Callable, Sequence


class Recall:
    """Items of one call, by index, that nobody wants any more. Not for two calls.

    `add` to it before the call or while it goes on: an item that has not begun is not run, one
    that runs is ended with its executor, one that has ended keeps its outcome.
    """

    __slots__ = ("_hear", "items")

    def __init__(self) -> None:
        self.items: set[int] = set()
        self._hear: Callable[[int], None] | None = None

    def add(self, index: int) -> None:
        self.items.add(index)
        if self._hear is not None:
            self._hear(index)

    def heard_by(self, hear: Callable[[int], None] | None) -> None:
        """Have *hear* told of what is added from now on; None: nobody."""
        self._hear = hear

    def of(self, indices: Sequence[int]) -> "Recall":
        """The same for a call with the items at *indices* only, from now on."""
        part = Recall()
        places = {index: place for place, index in enumerate(indices)}
        self.told(part, places.get)
        return part

    def told(self, other: "Recall", place: Callable[[int], int | None]) -> None:
        """Add to *other* what is in here or is added later, each at its *place* there, if any."""

        def hear(index: int) -> None:
            there = place(index)
            if there is not None:
                other.add(there)

        for index in self.items:
            hear(index)
        self._hear = hear
