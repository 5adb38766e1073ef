"""Newline-delimited JSON as it comes: pieces of any size in, whole lines out."""

from collections.abc import Iterator


class TooLong:
    """Stands for a line that was longer than it may be, and was not kept."""


TOO_LONG = TooLong()


class Lines:
    """Cuts pieces into lines; keeps no more than one line of *bytes_max* between them.

    Lines end with LF or CRLF, the last one perhaps with neither. They are counted from 1; blank
    ones are counted and left out.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._number = 0
        self._begun: list[bytes] = []
        """The line whose end has not come yet, in parts."""
        self._size = 0
        """Of that line, also where it is too long to be kept."""

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | TooLong]]:
        """The lines that *piece* ends, with their numbers. To be used up before the next piece."""
        first, *others = piece.split(b"\n")
        self._begin(first)
        if not others:
            return
        yield from self._end()
        self._begin(others.pop())
        for line in others:
            self._number += 1
            if len(line) > self._bytes_max:
                yield self._number, TOO_LONG
            elif line and not line.isspace():
                yield self._number, line

    def rest(self) -> Iterator[tuple[int, bytes | TooLong]]:
        """The last line, when nothing more comes."""
        yield from self._end()

    def _begin(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._bytes_max:
            self._begun.clear()
        elif part:
            self._begun.append(part)

    def _end(self) -> Iterator[tuple[int, bytes | TooLong]]:
        line, size = b"".join(self._begun), self._size
        self._begun.clear()
        self._size = 0
        self._number += 1
        if size > self._bytes_max:
            yield self._number, TOO_LONG
        elif line and not line.isspace():
            yield self._number, line
