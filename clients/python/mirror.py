"""Makes the client that blocks from the one with async and await: `python mirror.py [--check]`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent / "loopai_client"
BY_HAND: Final = {"__init__.py", "connecting.py", "iteration.py"}
RULES: Final = [
    (r"\bimport asyncio\nimport contextlib\n", "import contextlib\nimport time\n"),
    (r"\bimport asyncio\nimport time\n", "import time\n"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport AsyncIterator\b", "import Iterator"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bloopai_client\.aio\b", "loopai_client.blocking"),
    (r"\bAsync(Client|Iterator)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(close|read)\b", r"\1"),
    (r"( +)for (\w+) in ([\w.]+):\n +yield \2\n", r"\1yield from \3\n"),
    (r"\baiter_(bytes|lines)\b", r"iter_\1"),
]


def blocking(text: str) -> str:
    """What *text* of `aio` is without async and await."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", __file__, "-"]
    formatted = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return formatted.stdout


def stale() -> list[Path]:
    """The files of `blocking` that are not what `aio` makes of them."""
    return [path for path, text in made().items() if not path.exists() or path.read_text() != text]


def made() -> dict[Path, str]:
    return {
        PACKAGE / "blocking" / source.name: blocking(source.read_text())
        for source in sorted((PACKAGE / "aio").glob("*.py"))
        if source.name not in BY_HAND
    }


def main() -> int:
    if "--check" in sys.argv[1:]:
        return len(stale())
    for path, text in made().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
