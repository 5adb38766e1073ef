"""What a program printed and why it failed, on stderr: a pipe gets results and nothing else."""

import sys
from typing import Final

# What a terminal would obey rather than show. The program is not trusted to write it.
_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


def printed(stdout: str) -> None:
    if stdout:
        _say(stdout)


def failed(
    outcome: str, error_type: str, message: str, traceback: str = "", *, where: str = ""
) -> None:
    """Say how a call ended: *outcome*, the type of the error unless it is the same word, and why.

    *where* goes before it, and names one call of several.
    """
    name = f" ({error_type})" if error_type not in {"", outcome} else ""
    _say(f"{where}{outcome}{name}: {message}")
    if traceback:
        _say(traceback)


def _say(text: str) -> None:
    sys.stderr.write(text.rstrip("\n").translate(_CONTROLS) + "\n")
    sys.stderr.flush()
