"""`loopai task upload`: a program of one's own as the next version of a task."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from loopai.cli import api, cell, document, failure, options, output
from streams import messages

Uploaded = Literal["python", "javascript", "typescript"]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /tasks/{task}/artifacts`."""

    code: str
    language: messages.Language
    isolation: messages.Isolation | None
    activate: bool


def upload(
    *,
    task: options.TaskName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .py, .js or .ts file, or `-` for stdin.")
    ],
    language: Annotated[
        Uploaded | None, typer.Option(help="Not what the suffix of FILE says.")
    ] = None,
    isolation: Annotated[
        messages.Isolation | None,
        typer.Option(help="What gets a fresh process; found by trying it unless it is set."),
    ] = None,
    activate: Annotated[bool, typer.Option(help="Make it the version that answers.")] = True,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Upload a program as the next version. It is loaded and tried in a cell first.

    Example: `loopai task upload spam spam.ts --no-activate`
    """
    body = msgspec.json.encode(
        Upload(
            code=_code(file),
            language=language or _language(file),
            isolation=isolation,
            activate=activate,
        )
    )
    answer = asyncio.run(_post(url, api.task_path(task, "artifacts"), body))
    if as_json:
        output.print_json(answer)
        return
    found = api.decode(answer, messages.ProgramArtifact)
    output.print_line(
        f"version {found.version} ({found.status}): {found.size_bytes:,} bytes of "
        f"{found.language}, isolation {found.isolation}"
    )
    output.print_line(found.status_reason)


def _language(file: str) -> messages.Language:
    known = cell.LANGUAGES.get(Path(file).suffix)
    if known is None:
        what = "stdin has no suffix" if file == "-" else f"{file} has no suffix that is known"
        raise failure.Failure(f"{what}; say --language python, javascript or typescript")
    return known


def _code(file: str) -> str:
    body = sys.stdin.buffer.read() if file == "-" else document.read(Path(file))
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise failure.Failure(f"{file} is not UTF-8: {error.reason}") from error


async def _post(url: str, path: str, body: bytes) -> bytes:
    async with api.Api(url) as client:
        return await client.post(path, body)
