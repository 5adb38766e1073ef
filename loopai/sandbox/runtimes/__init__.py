"""What runs programs: one module for each runtime."""

from typing import Final

from loopai.sandbox.runtimes import deno
from streams import messages

_DENO: Final[frozenset[messages.Language]] = frozenset({"javascript", "typescript"})


def languages() -> frozenset[messages.Language]:
    """Return the languages that this machine can run. Starts nothing."""
    found: frozenset[messages.Language] = frozenset({"python"})
    return found | _DENO if deno.find() else found
