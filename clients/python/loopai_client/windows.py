"""How a stream of items is cut into windows."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

BYTES_MAX: Final = 1 << 20
"""Of the items of a window, as JSON; with more of them a window is sent before it is full."""

_encode = msgspec.json.Encoder().encode


class Window:
    """Items that travel together; `add` them until it is `full`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._number = 0
        self._bytes = 0
        self._items: list[msgspec.Raw] = []

    def add(self, item: Mapping[str, Any]) -> None:
        """Take *item* up, numbered where it has no id. TypeError where it is none."""
        if not isinstance(item, Mapping) or "input" not in item:
            raise TypeError(f'item {self._number} has no "input": give {{"input": …}}')
        text = _encode({"id": str(self._number), **item})
        self._items.append(msgspec.Raw(text))
        self._number += 1
        self._bytes += len(text)

    @property
    def holds(self) -> bool:
        return bool(self._items)

    @property
    def full(self) -> bool:
        return len(self._items) >= self._size or self._bytes >= BYTES_MAX

    def take(self) -> list[msgspec.Raw]:
        """The items, which leave the window empty."""
        taken, self._items, self._bytes = self._items, [], 0
        return taken
