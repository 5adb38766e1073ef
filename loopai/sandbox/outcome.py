"""What became of one call of a program: a value, never an exception."""

from typing import Literal

import msgspec

OutcomeKind = Literal[
    "success",
    "error",
    "timeout",
    "out_of_memory",
    "output_too_large",
    "invalid_result",
    "killed",
    "cancelled",
    "lost",
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call. `lost` is the only kind that is nobody's answer: the cell broke, try again."""

    kind: OutcomeKind
    output: bytes | None = None
    """UTF-8 JSON text on success, on one line."""
    error_type: str = ""
    """Name of the exception for `error`; the kind itself for the other failures."""
    message: str = ""
    """Begins with `line N: ` where the line of the program is known."""
    line: int | None = None
    """Line of the program that raised or was running; None where it is not known."""
    traceback: str = ""
    """The program's own frames and never the runner's, in the order of its language: Python has the
    innermost last, JavaScript first. Cut at `message_bytes_max`."""
    run_ms: float = 0.0
    """Wall time inside the cell; measured by the host where the cell could not answer."""
    stdout: str = ""
    """stdout and stderr of this call, cut at `Limits.stdout_bytes_max`."""
