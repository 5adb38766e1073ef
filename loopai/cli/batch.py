"""`loopai batch`: lines of items in, lines of results out, both at the same time."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec
import typer

from loopai.cli import api, duplex, failure, options, output
from streams import messages

CONCURRENCY_MAX: Final = 2_048
"""What the API takes."""
NDJSON: Final = "application/x-ndjson"
_SUMMARY: Final = b'{"summary":'


class Summary(msgspec.Struct, frozen=True):
    total: int
    succeeded: int
    failed: int
    duration_ms: float


class LastLine(msgspec.Struct, frozen=True):
    summary: Summary
    problem: messages.Problem | None = None
    """Why the batch ended before its items did."""


class Query(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `POST /batch/execute` takes beside lines."""

    task_id: str
    version: int | None = None
    ordered: bool = True
    max_concurrency: int | None = None
    stop_on_first_error: bool = False
    timeout_ms: int | None = None


def batch(
    *,
    task: options.TaskName,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help='NDJSON, `{"id": …, "input": …}` on each line; `-` is stdin.'
        ),
    ],
    version: Annotated[int | None, typer.Option(min=1, help="Not the active version.")] = None,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Results as they come, not as the items came.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=CONCURRENCY_MAX, help="Items on their way at once.")
    ] = None,
    stop_on_first_error: Annotated[
        bool, typer.Option("--stop-on-first-error", help="Do not run what was not sent by then.")
    ] = False,
    timeout_ms: Annotated[
        int | None, typer.Option(min=1, help="Longest time of each item, from when it is sent.")
    ] = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Run many inputs: items are read as results are written, however many there are.

    One result on each line of stdout. The summary goes to stderr; with --json it is the last line
    of stdout. Exit code 1 when an item failed.

    Example: `loopai batch spam messages.ndjson > results.ndjson`
    """
    query = Query(
        task_id=task,
        version=version,
        ordered=not unordered,
        max_concurrency=concurrency,
        stop_on_first_error=stop_on_first_error,
        timeout_ms=timeout_ms,
    )
    results = Results(as_json=as_json)
    with _opened(file) as descriptor:
        asyncio.run(_batch(url, query, duplex.pieces(descriptor), results))
    last = results.last
    if last is None:
        raise failure.Failure(f"the answer broke off; {results.given()}")
    if not as_json:
        output.stderr().print(_text(last.summary), soft_wrap=True)
    if last.problem is not None:
        raise failure.Failure(f"{last.problem.code}: {last.problem.message}; {results.given()}")
    if last.summary.failed:
        raise failure.Failure(f"{last.summary.failed} of {last.summary.total} items failed")


class Results:
    """Prints whole lines of the answer as they come; keeps the last one, which has the summary."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._begun = b""
        self.count = 0
        self.last: LastLine | None = None

    def take(self, piece: bytes) -> None:
        lines, newline, self._begun = (self._begun + piece).rpartition(b"\n")
        if not newline:
            return
        before, _, line = lines.rpartition(b"\n")
        if not line.startswith(_SUMMARY):
            self._print(lines)
            return
        self.last = api.decode(line, LastLine)
        if before:
            self._print(before)
        if self._as_json:
            output.print_bytes(line + b"\n")

    def given(self) -> str:
        return f"{self.count:,} results were printed"

    def _print(self, lines: bytes) -> None:
        self.count += lines.count(b"\n") + 1
        output.print_bytes(lines + b"\n")


async def _batch(url: str, query: Query, items: AsyncIterator[bytes], results: Results) -> None:
    path = f"/api/v1/batch/execute?{urlencode(_parameters(query))}"
    started = time.monotonic()

    def take(piece: bytes) -> None:
        results.take(piece)
        rate = results.count / (time.monotonic() - started)
        status.update(f"{results.count:,} results, {rate:,.0f} a second")

    screen = output.stderr()
    # Where results scroll by on the same terminal they are the progress.
    screen.quiet = sys.stdout.isatty()
    try:
        with screen.status("sending") as status:
            await duplex.post(url, path, NDJSON, items, take)
    except asyncio.CancelledError:
        said = f"{results.given()}; what had been sent may still run, the rest does not"
        output.stderr().print(said, soft_wrap=True)
        raise


def _parameters(query: Query) -> dict[str, object]:
    found = msgspec.to_builtins(query).items()
    return {name: str(each).lower() if isinstance(each, bool) else each for name, each in found}


def _text(summary: Summary) -> str:
    return (
        f"{summary.total:,} items: {summary.succeeded:,} succeeded, {summary.failed:,} failed, in "
        f"{summary.duration_ms / 1000:,.1f} s"
    )


@contextlib.contextmanager
def _opened(file: str) -> Iterator[int]:
    """A descriptor of *file*; failure.Usage where it cannot be read."""
    if file == "-":
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise failure.Usage(f"{file}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
