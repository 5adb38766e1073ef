"""`loopai run`: one input through the active program of a task."""

import asyncio
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, document, failure, options, output, record, transcript, waiting
from streams import messages


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /tasks/{task}/execute`."""

    input: msgspec.Raw = msgspec.Raw(b"")
    version: int | None = None
    timeout_ms: int | None = None
    routing_key: str | None = None
    idempotency_key: str | None = None


def run(
    *,
    task: options.TaskName,
    argument: Annotated[
        str, typer.Argument(metavar="INPUT", help="JSON text, `@file`, or `-` for stdin.")
    ],
    version: Annotated[int | None, typer.Option(min=1, help="Not the active version.")] = None,
    timeout_ms: Annotated[
        int | None, typer.Option(min=1, help="Longest time from now to its end.")
    ] = None,
    routing_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key gets the same version of two.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="However often it is run with this key, it runs once."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print its id, and do not wait for it.")
    ] = False,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Run one input and print the output as JSON.

    Where the task takes a string, text that is not JSON is that string. What the program printed
    and why it failed goes to stderr. Exit code 1 when it failed.

    Example: `loopai run spam '{"sms": "You have won a prize"}'`
    """
    request = Request(
        version=version,
        timeout_ms=timeout_ms,
        routing_key=routing_key,
        idempotency_key=idempotency_key,
    )
    body = asyncio.run(_run(url, task, argument, request, no_wait=no_wait))
    if not no_wait:
        finish(body, as_json=as_json)
    elif as_json:
        output.print_json(body)
    else:
        output.print_line(api.decode(body, api.Execution).id)


def finish(body: bytes, *, as_json: bool) -> None:
    """Print how the execution in *body* ended. Failure where it has no output."""
    execution = api.decode(body, api.Execution)
    if as_json:
        output.print_json(body)
    else:
        _print(execution)
    if execution.status != "success":
        raise failure.Failure(
            f"the program ended with {execution.status} (execution {execution.id})"
        )


async def _run(url: str, task: str, argument: str, request: Request, *, no_wait: bool) -> bytes:
    given = document.text(argument)
    async with api.Api(url) as client:
        if not document.is_json(given):
            given = await _as_text(client, task, given)
        request = msgspec.structs.replace(request, input=msgspec.Raw(given))
        path, body = api.task_path(task, "execute"), msgspec.json.encode(request)
        if no_wait:
            return await client.post(path, body, wait_s=0.0)
        with waiting.goes_on(_how_to_go_on(request)), output.stderr().status("running"):
            answer = await client.post(path, body, answer_s=(request.timeout_ms or 0) / 1000)
        standing = api.decode(answer, waiting.Standing)
        if standing.status not in waiting.UNDER_WAY:
            return answer
        path, command = record.path(standing.id), f"loopai execution wait {standing.id}"
        return await waiting.shown(client, path, command, look_s=waiting.LOOK_S, timeout_s=None)


def _how_to_go_on(request: Request) -> str:
    if request.idempotency_key is None:
        return "if it had been sent it goes on; `loopai audit tail` shows how it ended"
    return "if it had been sent it goes on; the same command waits for it again"


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
