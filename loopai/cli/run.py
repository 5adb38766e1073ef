"""`loopai run`: one input through the active program of a task."""

import asyncio
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, document, failure, options, output, transcript
from streams import messages


def run(
    task: options.TaskName,
    argument: Annotated[
        str, typer.Argument(metavar="INPUT", help="JSON text, `@file`, or `-` for stdin.")
    ],
    version: Annotated[int | None, typer.Option(min=1, help="Not the active version.")] = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Run one input and print the output as JSON.

    What the program printed and why it failed goes to stderr. Exit code 1 when it failed.

    Example: `loopai run spam '{"sms": "You have won a prize"}'`
    """
    asyncio.run(_run(url, task, argument, version, as_json))


async def _run(url: str, task: str, argument: str, version: int | None, as_json: bool) -> None:
    body = document.text(argument)
    async with api.Api(url) as client:
        if not document.is_json(body):
            body = await _as_text(client, task, body)
        request: dict[str, msgspec.Raw | int] = {"input": msgspec.Raw(body)}
        if version is not None:
            request["version"] = version
        answer = await client.post(api.task_path(task, "execute"), msgspec.json.encode(request))
    execution = api.decode(answer, api.Execution)
    if as_json:
        output.print_json(answer)
    else:
        _print(execution)
    if execution.status != "success":
        raise failure.Failure(
            f"the program ended with {execution.status} (execution {execution.id})"
        )


def _print(execution: api.Execution) -> None:
    transcript.printed(execution.stdout)
    if execution.status == "success":
        output.print_line(bytes(execution.output).decode())
    elif execution.error is not None:
        error = execution.error
        # What never got to a cell has no outcome.
        ended = error.outcome or execution.status
        transcript.failed(ended, error.type, error.message, error.traceback)


async def _as_text(client: api.Api, task: str, body: bytes) -> bytes:
    """*body*, which is not JSON, as the JSON string that the task's schema asks for."""
    found = api.decode(await client.get(api.task_path(task)), messages.TaskSpecification)
    schema = msgspec.json.decode(found.input_schema)
    if not isinstance(schema, dict) or schema.get("type") != "string":
        raise failure.Failure(
            f"INPUT is not JSON; {task} takes {_form(schema)}, as text, from @file or from -, stdin"
        )
    try:
        return msgspec.json.encode(body.decode())
    except UnicodeDecodeError as error:
        raise failure.Failure(
            f"INPUT is not UTF-8: {error.reason} at byte {error.start}"
        ) from error


def _form(schema: object) -> str:
    """What a schema asks for, in a few words."""
    if not isinstance(schema, dict):
        return "JSON"
    if isinstance(schema.get("properties"), dict):
        return "{" + ", ".join(f'"{name}": …' for name in schema["properties"]) + "}"
    return str(schema.get("type", "JSON"))
