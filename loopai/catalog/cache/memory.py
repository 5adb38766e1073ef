"""L1: texts in this process, bounded by bytes; the one used least recently goes first."""

import sys
from collections import OrderedDict
from typing import Final, NamedTuple

OVERHEAD_BYTES: Final = 512
"""Of each text, beside itself: its digest and its place here. Bounds the number of tiny ones."""


class _Kept(NamedTuple):
    text: str
    size: int
    """Noted, since a text that was encoded meanwhile takes more than when it came."""


class Memory:
    """Texts by digest, of *bytes_max* together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def get(self, digest: str) -> str | None:
        found = self._kept.get(digest)
        if found is None:
            return None
        self._kept.move_to_end(digest)
        return found.text

    def put(self, digest: str, text: str) -> None:
        """Keep *text*, if it has room at all."""
        size = sys.getsizeof(text) + OVERHEAD_BYTES
        if digest in self._kept or size > self.bytes_max:
            return
        self._kept[digest] = _Kept(text, size)
        self.bytes += size
        while self.bytes > self.bytes_max:
            self.bytes -= self._kept.popitem(last=False)[1].size
