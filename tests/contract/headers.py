"""Which headers an answer may have: those that are described, and those of HTTP itself."""

from collections.abc import Iterable
from typing import Any, Final

STANDARD: Final = frozenset(
    {
        *("connection", "content-length", "content-type", "date", "keep-alive", "server"),
        *("transfer-encoding", "vary"),
        *("content-security-policy", "referrer-policy", "x-content-type-options"),
    }
)
"""What HTTP needs of any answer, and what tells a browser what a page may do."""


def undocumented(operation: dict[str, Any], status: int, names: Iterable[str]) -> set[str]:
    """Those of *names* that *operation* does not list for *status*."""
    response = operation["responses"].get(str(status), {})
    listed = {each.lower() for each in response.get("headers", {})}
    return {each.lower() for each in names} - listed - STANDARD
