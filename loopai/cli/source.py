"""A program given on the command line: a file's name, or `-` for stdin, and its language."""

import codecs
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import typer

from loopai.cli import document, failure

Language = Literal["python", "javascript", "typescript"]
"""What Loopai runs."""
LANGUAGES: Final[dict[str, Language]] = {
    ".py": "python",
    ".js": "javascript",
    ".ts": "typescript",
}

File = Annotated[
    str, typer.Argument(metavar="FILE", help="A .py, .js or .ts file, or `-` for stdin.")
]
LanguageOption = Annotated[Language | None, typer.Option(help="Not what the suffix of FILE says.")]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a program, without a byte order mark."""

    code: str
    language: Language


def read(file: str, language: Language | None) -> Source:
    """The program in *file*; Usage where it cannot be read, is not UTF-8, or has no language."""
    return Source(language=language or _language(file), code=_code(file))


def _language(file: str) -> Language:
    suffix = Path(file).suffix
    if suffix in LANGUAGES:
        return LANGUAGES[suffix]
    what = "stdin has no suffix" if file == "-" else f"{file}: unknown suffix {suffix!r}"
    raise failure.Usage(f"{what}; say --language python, javascript or typescript")


def _code(file: str) -> str:
    try:
        body = sys.stdin.buffer.read() if file == "-" else document.read(Path(file))
        return body.removeprefix(codecs.BOM_UTF8).decode()
    except failure.Failure as error:
        raise failure.Usage(str(error)) from error
    except UnicodeDecodeError as error:
        raise failure.Usage(
            f"{file}: not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
