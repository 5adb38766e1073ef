"""`loopai task upload`: a program of one's own as the next version of a task."""

import asyncio
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, options, output, source
from streams import messages


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /tasks/{task}/artifacts`."""

    code: str
    language: messages.Language
    isolation: messages.Isolation | None
    activate: bool


def upload(
    *,
    task: options.TaskName,
    file: source.File,
    language: source.LanguageOption = None,
    isolation: Annotated[
        messages.Isolation | None,
        typer.Option(help="What gets a fresh process; found by trying it unless it is set."),
    ] = None,
    activate: Annotated[bool, typer.Option(help="Make it the version that answers.")] = True,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Upload a program as the next version. It is loaded and tried in a cell first.

    Exit codes: 0 it is the next version; 1 it is refused, with line and reason; 2 nothing was
    uploaded, because FILE cannot be.

    Example: `loopai task upload spam spam.ts --no-activate`
    """
    found = source.read(file, language)
    body = msgspec.json.encode(
        Upload(
            code=found.code,
            language=found.language,
            isolation=isolation,
            activate=activate,
        )
    )
    answer = asyncio.run(_post(url, api.task_path(task, "artifacts"), body))
    if as_json:
        output.print_json(answer)
        return
    stored = api.decode(answer, messages.ProgramArtifact)
    output.print_line(
        f"version {stored.version} ({stored.status}): {stored.size_bytes:,} bytes of "
        f"{stored.language}, isolation {stored.isolation}"
    )
    output.print_line(stored.status_reason)


async def _post(url: str, path: str, body: bytes) -> bytes:
    async with api.Api(url) as client:
        return await client.post(path, body)
