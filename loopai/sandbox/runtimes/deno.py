"""JavaScript and TypeScript by Deno."""

import os
import pathlib
import shutil
import sys
from typing import Final

PROGRAM: Final = "deno"


def find() -> str | None:
    """Return the path of Deno: beside this interpreter, where PyPI puts it, or on PATH."""
    beside = pathlib.Path(sys.prefix, "bin", PROGRAM)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
