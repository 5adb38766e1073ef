"""Server-Sent Events (HTML, section 9.2), line by line."""

import msgspec

from loopai_client import models


class Parser:
    """Give it lines in turn; it gives an event at the empty line behind it."""

    def __init__(self) -> None:
        self.last_id = ""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, line: str) -> models.Event | None:
        if not line:
            return self._finished()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            self.last_id = value
        return None

    def broken(self) -> None:
        """The connection ended: what has no empty line behind it never came."""
        self._kind, self._data = "", []

    def _finished(self) -> models.Event | None:
        kind, data = self._kind or "message", "\n".join(self._data)
        self.broken()
        if not data:
            return None
        return models.Event(kind=kind, data=msgspec.json.decode(data), id=self.last_id)
