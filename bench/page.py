"""docs/performance.md: one section for each part, with the machine, a picture and the table.

A part that is measured again replaces its own section and leaves the others.
"""

import datetime as dt
import importlib
import inspect
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench import contenders, report

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PLOT = Path(__file__).with_name("plot.py")
PLOT_S_MAX = 60.0
HEAD = """\
# Performance

What `make bench` measured. `python -m bench --help` lists its parts; with a name and `--write` it
renews one. Figures compare within a table: all in it were measured on the machine that it names.
"""

_SECTION = re.compile(r"^<!-- part: (\w+) -->\n(.*?)^<!-- end -->\n", re.MULTILINE | re.DOTALL)


def require() -> None:
    """Unavailable says what is missing for the pictures."""
    if not contenders.PYTHON.exists():
        raise report.Unavailable("matplotlib is not installed: make .venv-bench/.installed")


def write(
    part: str, measured: report.Report, machine: Mapping[str, str], order: Sequence[str]
) -> None:
    """Put *measured* into the page, with the sections of all parts in *order*."""
    picture = PAGE.with_suffix("") / f"{part}.png"
    if measured.panels:
        draw(measured, picture)
    text = PAGE.read_text() if PAGE.exists() else ""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    sections = sections_of(text) | {part: section(part, measured, machine, today)}
    PAGE.write_text(assembled(sections, order))


def draw(measured: report.Report, picture: Path) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [contenders.PYTHON, PLOT, picture],
        input=msgspec.json.encode(
            {"title": capitalised(measured.title), "panels": measured.panels}
        ),
        check=True,
        timeout=PLOT_S_MAX,
    )


def section(part: str, measured: report.Report, machine: Mapping[str, str], date: str) -> str:
    """The text of a part: what it does is what its module says of itself."""
    told = inspect.getdoc(importlib.import_module(f"bench.{part}")) or ""
    title = capitalised(measured.title)
    picture = [f"![{title}](performance/{part}.png)"] if measured.panels else []
    about = f"`python -m bench {part}`, {date}: {', '.join(machine.values())}."
    return "\n\n".join([f"## {title}", told, about, *picture, measured.markdown()]) + "\n"


def capitalised(title: str) -> str:
    return title[0].upper() + title[1:]


def sections_of(text: str) -> dict[str, str]:
    return {part: body.strip("\n") + "\n" for part, body in _SECTION.findall(text)}


def assembled(sections: Mapping[str, str], order: Sequence[str]) -> str:
    return "\n".join(
        [
            HEAD,
            *(
                f"<!-- part: {part} -->\n{sections[part]}<!-- end -->\n"
                for part in order
                if part in sections
            ),
        ]
    )
