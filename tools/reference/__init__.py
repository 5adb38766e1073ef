"""What of docs/reference/ the code says itself: whole pages, and tables inside of others."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from loopai.ingress.describe import bus
from tools.reference import api, commands, subjects, tables

ROOT: Final = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Final[dict[str, Callable[[], str]]] = {
    "api.md": api.page,
    "subjects.md": subjects.page,
    "asyncapi.json": lambda: _indented(bus.encoded()),
}
SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "cli.md": commands.sections,
    "errors.md": tables.errors_table,
    "settings.md": tables.settings_table,
}
"""Between BEGIN and END of a page that people wrote."""
BEGIN: Final = "<!-- made by `make docs` from here -->"
END: Final = "<!-- to here -->"


def rendered() -> dict[str, str]:
    """Every page that is made, or has a part that is, as it should be. ValueError: no such part."""
    return {name: make() for name, make in PAGES.items()} | {
        name: _with_section(name, make()) for name, make in SECTIONS.items()
    }


def write() -> None:
    for name, text in rendered().items():
        (ROOT / name).write_text(text)


def _with_section(name: str, section: str) -> str:
    page = (ROOT / name).read_text()
    pattern = f"{re.escape(BEGIN)}\n.*?{re.escape(END)}"
    made, count = re.subn(
        pattern, lambda _: f"{BEGIN}\n\n{section}\n{END}", page, count=1, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"docs/reference/{name} lacks a line {BEGIN!r} with {END!r} behind it")
    return made


def _indented(document: bytes) -> str:
    return msgspec.json.format(document, indent=2).decode() + "\n"
