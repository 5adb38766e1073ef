"""A program as the sandbox sees it: text, and whose it is."""

import msgspec

from streams import messages


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """Programs of different tenants never share a cell, even when their digests are equal."""

    tenant: str
    digest: str
    code: str
    isolation: messages.Isolation = "shared"
    language: messages.Language = "python"


class LoadError(Exception):
    """The program cannot be loaded. The message gives the line, where known, and the reason."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
