"""`loopai task`: describe a task, look at it, have a program generated for it."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from loopai.cli import (
    api,
    document,
    examples,
    failure,
    generation,
    options,
    output,
    removal,
    update,
    upload,
)
from streams import messages

app = typer.Typer(help="Tasks: what programs are made for.", no_args_is_help=True)
app.command()(upload.upload)
app.command()(update.update)
app.command()(removal.delete)

WAIT_S: Final = 120.0

SCHEMA_CHARACTERS_MAX: Final = 60
"""Longest schema in a list of tasks; `task show` has all of it."""


class NewTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /tasks`; what is not set is left to the server."""

    name: str
    description: str = ""
    input_schema: msgspec.Raw = msgspec.Raw(b"")
    output_schema: msgspec.Raw = msgspec.Raw(b"")
    examples: tuple[messages.Example, ...] = ()
    accuracy_target: float | None = None


@app.command()
def create(
    *,
    name: Annotated[
        str | None, typer.Argument(help="Name: letters, digits, `-`, `_` and `.`.")
    ] = None,
    input_schema: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="JSON Schema of what goes in.")
    ] = None,
    output_schema: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="JSON Schema of what comes out.")
    ] = None,
    example_file: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            metavar="FILE",
            help="Labelled examples: .json or .jsonl with `input` and `output`, or a .csv/.tsv "
            "whose last column is the output.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="The task in words.")] = "",
    accuracy_target: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of right answers to be active.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="The whole task as JSON (- stdin).")
    ] = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Create a task.

    Example: `loopai task create spam --input-schema in.json --output-schema out.json --examples
    labelled.jsonl`
    """
    if source is not None:
        if name or input_schema or output_schema or example_file or description:
            raise typer.BadParameter("--from FILE holds the whole task; give nothing else of it")
        origin, argument = ("stdin", source) if source == "-" else (source, f"@{source}")
        body = bytes(document.json(document.text(argument), origin))
    elif name and input_schema and output_schema:
        body = msgspec.json.encode(
            NewTask(
                name=document.utf8(name, "NAME"),
                description=document.utf8(description, "--description"),
                input_schema=document.json_or_file(input_schema, "--input-schema"),
                output_schema=document.json_or_file(output_schema, "--output-schema"),
                examples=examples.read(example_file) if example_file else (),
                accuracy_target=accuracy_target,
            )
        )
    else:
        raise typer.BadParameter("give NAME, --input-schema and --output-schema, or --from FILE")
    answer = asyncio.run(_post(url, "/api/v1/tasks", body))
    if as_json:
        output.print_json(answer)
        return
    task = api.decode(answer, messages.TaskSpecification)
    output.print_line(f"{task.name} created, with {len(task.examples)} examples (id {task.id})")
    if task.examples:
        output.print_line(f"next: loopai task generate {task.name}")


@app.command("list")
def list_tasks(url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False) -> None:
    """List the tasks.

    Example: `loopai task list --json`
    """
    answer = asyncio.run(_get(url, "/api/v1/tasks"))
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (task.name, _brief(task.input_schema), _brief(task.output_schema), task.id)
        for task in api.decode(answer, api.TaskList).tasks
    ]
    if rows:
        output.stdout().print(output.grid(("task", "input", "output", "id"), rows))
    else:
        output.print_line("no tasks yet; `loopai task create --help` says how to make one")


@app.command()
def show(
    task: options.TaskName, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Show a task: its schemas, its targets and how many examples it has.

    Example: `loopai task show spam`
    """
    answer = asyncio.run(_get(url, api.task_path(task)))
    if as_json:
        output.print_json(answer)
        return
    found = api.decode(answer, messages.TaskSpecification)
    rows = [
        ("name", found.name),
        ("id", found.id),
        ("description", found.description),
        ("input", _schema(found.input_schema)),
        ("output", _schema(found.output_schema)),
        ("examples", str(len(found.examples))),
        ("accuracy target", f"{found.accuracy_target:g}"),
        ("sampling rate", f"{found.sampling_rate:g}"),
        ("created", output.time(found.created_at)),
        ("updated", output.time(found.updated_at)),
    ]
    output.stdout().print(output.grid(("", ""), rows))


@app.command()
def generate(
    *,
    task: options.TaskName,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the program.")
    ] = WAIT_S,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same program.")
    ] = 0,
    activate: Annotated[
        bool, typer.Option(help="Make it the version that answers, if it is good enough.")
    ] = True,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print the id of the operation; do not wait for it.")
    ] = False,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Have a program generated from the task's examples, and say how good it is.

    Example: `loopai task generate spam --seed 1`
    """
    request = generation.Request(seed=seed, activate=activate)
    if not no_wait:
        asyncio.run(_generate(url, task, request, wait, as_json))
        return
    path = api.task_path(task, "generate")
    answer = asyncio.run(_post(url, path, msgspec.json.encode(request)))
    if as_json:
        output.print_json(answer)
    else:
        output.print_line(api.decode(answer, messages.Operation).id)


async def _generate(
    url: str, task: str, request: generation.Request, wait_s: float, as_json: bool
) -> None:
    console = output.stderr()
    async with api.Api(url) as client:
        with console.status("queued") as status:
            operation = await generation.generate(
                client, task, request, end_s=time.monotonic() + wait_s, stage=status.update
            )
        if operation.status == "failed":
            raise failure.Failure(generation.why_failed(operation))
        if operation.status != "succeeded" or operation.version is None:
            raise failure.Failure(
                f"still {operation.status} after {wait_s:g} s; it goes on, and loopai operation "
                f"wait {operation.id} waits again"
            )
        body = await client.get(api.task_path(task, "artifacts", operation.version))
    artifact = api.decode(body, messages.ProgramArtifact)
    if as_json:
        output.print_json(body)
    else:
        generation.show(artifact, output.stdout())
    if request.activate and not operation.activated:
        raise failure.Failure(generation.why_not_active(operation, artifact))


async def _get(url: str, path: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(path)


async def _post(url: str, path: str, body: bytes) -> bytes:
    async with api.Api(url) as client:
        return await client.post(path, body)


def _brief(schema: msgspec.Raw) -> str:
    """As much of *schema* as a row of a table has room for."""
    text = _schema(schema)
    return text if len(text) <= SCHEMA_CHARACTERS_MAX else text[: SCHEMA_CHARACTERS_MAX - 1] + "…"


def _schema(schema: msgspec.Raw) -> str:
    """A JSON Schema on one line; its properties only, where it has some."""
    decoded: Any = msgspec.json.decode(schema)  # Any: a JSON Schema of any form
    if isinstance(decoded, dict) and isinstance(decoded.get("properties"), dict):
        return ", ".join(decoded["properties"])
    return msgspec.json.encode(decoded).decode()
