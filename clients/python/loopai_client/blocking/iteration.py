"""Windows of items that come one by one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from loopai_client.windows import Window

Items = Iterable[Mapping[str, Any]]


def windows(items: Items, size: int) -> Iterator[list[msgspec.Raw]]:
    """*items* in windows of *size*: a window is sent when it is full, or nothing more comes."""
    window = Window(size)
    for item in items:
        window.add(item)
        if window.full:
            yield window.take()
    if window.holds:
        yield window.take()
