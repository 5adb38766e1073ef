"""`loopai task update`: other words, schemas, examples or targets for a task."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, document, examples, options, output
from streams import messages


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `PATCH /tasks/{task}`; what is not set stays as it is."""

    description: str | None = None
    input_schema: msgspec.Raw | None = None
    output_schema: msgspec.Raw | None = None
    examples: tuple[messages.Example, ...] | None = None
    accuracy_target: float | None = None
    latency_target_ms: float | None = None
    sampling_rate: float | None = None


def update(
    *,
    task: options.TaskName,
    description: Annotated[str | None, typer.Option(help="The task in words.")] = None,
    input_schema: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="JSON Schema of what goes in.")
    ] = None,
    output_schema: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="JSON Schema of what comes out.")
    ] = None,
    example_file: Annotated[
        Path | None,
        typer.Option("--examples", metavar="FILE", help="Labelled examples, in place of all."),
    ] = None,
    accuracy_target: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of right answers to be active.")
    ] = None,
    latency_target_ms: Annotated[
        float | None, typer.Option(min=0, help="How long a program should take at most.")
    ] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of executions that are checked.")
    ] = None,
    revision: options.Revision = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Change a task; what is not given stays as it is. Its programs stay too.

    Example: `loopai task update spam --examples more.jsonl --accuracy-target 0.95`
    """
    change = Change(
        description=None if description is None else document.utf8(description, "--description"),
        input_schema=document.json_or_file(input_schema, "--input-schema")
        if input_schema
        else None,
        output_schema=document.json_or_file(output_schema, "--output-schema")
        if output_schema
        else None,
        examples=examples.read(example_file) if example_file else None,
        accuracy_target=accuracy_target,
        latency_target_ms=latency_target_ms,
        sampling_rate=sampling_rate,
    )
    if change == Change():
        raise typer.BadParameter("give at least one thing to change; --help lists them")
    answer = asyncio.run(_patch(url, api.task_path(task), msgspec.json.encode(change), revision))
    if as_json:
        output.print_json(answer)
        return
    changed = api.decode(answer, messages.TaskSpecification)
    output.print_line(f"{changed.name} is changed; it has revision {changed.revision} now")


async def _patch(url: str, path: str, body: bytes, revision: int | None) -> bytes:
    async with api.Api(url) as client:
        return await client.patch(path, body, revision=revision)
