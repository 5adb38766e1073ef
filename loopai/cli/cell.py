"""`loopai sandbox run`: a program file on some inputs, in a real cell, without a broker."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import typer

from loopai import settings
from loopai.cli import document, failure, interrupt, options, output, source, transcript
from loopai.sandbox import limits as limits_
from loopai.sandbox import outcome, program
from streams import messages

if TYPE_CHECKING:
    from loopai.sandbox import pool

ITEMS_MAX: Final = limits_.Limits().batch_items_max
"""Inputs that are given to the cell at once: results appear while later inputs still wait."""
MEMORY_MIB_LEAST: Final = settings.CELL_MEMORY_BYTES_LEAST // limits_.MIB


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One call as `--json` prints it: an outcome whose output is JSON and not text."""

    kind: outcome.OutcomeKind
    output: msgspec.Raw
    error_type: str
    message: str
    line: int | None
    traceback: str
    run_ms: float
    stdout: str


def run(
    *,
    file: source.File,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="JSON", help="JSON text, or `@file`. May be repeated."),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Many inputs: NDJSON, one on each line.")
    ] = None,
    language: source.LanguageOption = None,
    timeout_ms: Annotated[
        int, typer.Option(min=1, max=300_000, help="Longest run on one input.")
    ] = 5_000,
    isolation: Annotated[
        Literal["shared", "batch", "call"],
        typer.Option(help="What gets a fresh process: nothing, each batch, or each call."),
    ] = "shared",
    memory_mib: Annotated[
        int | None,
        typer.Option(help=f"Memory of the program, at least {MEMORY_MIB_LEAST}; 256 if not set."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a program file on inputs in a cell on this machine. Needs no broker.

    Prints one line of JSON for each input: its output, or among several an empty line where the
    program failed (with `--json` the whole outcome). What the program printed and why it failed
    goes to stderr. Exit codes: 0 all inputs gave a result; 1 the program failed or does not load;
    2 nothing was run; 128 and the signal's number when a signal ended it.

    Example: `loopai sandbox run upper.py --input '"hello"'`
    """
    if file == "-" and given is not None and "-" in given:
        raise failure.Usage("stdin cannot be both the program and an input")
    found = source.read(file, language)
    with _as_usage():
        values = list(_values(given or [], inputs))
    if not values:
        raise failure.Usage(f"{inputs} holds no input: it is to have JSON on each line")
    text = program.Program(
        tenant="local",
        digest=hashlib.sha256(found.code.encode()).hexdigest(),
        code=found.code,
        isolation=isolation,
        language=found.language,
    )
    bounds = _limits(memory_mib)
    work = _run(text, bounds, values, timeout_ms=timeout_ms, as_json=as_json)
    try:
        well = asyncio.run(interrupt.guard(work, _hurry))
    except interrupt.Interrupted as error:
        raise typer.Exit(128 + error.number) from error
    if not well:
        raise typer.Exit(1)


@contextlib.contextmanager
def _as_usage() -> Iterator[None]:
    """Nothing has run yet: whatever fails in here is what the user gave."""
    try:
        yield
    except failure.Failure as error:
        raise failure.Usage(str(error)) from error


def _values(given: Sequence[str], inputs: Path | None) -> Iterator[bytes]:
    for argument in given:
        origin = argument[1:] if argument.startswith("@") else f"--input {argument}"
        yield bytes(document.json(document.text(argument), origin)).strip()
    if inputs is not None:
        for number, line in enumerate(document.read(inputs).splitlines(), 1):
            if line.strip():
                yield bytes(document.json(line, f"{inputs}, line {number}")).strip()
    elif not given:
        raise failure.Usage(
            "no input: give --input JSON, --input @FILE, or --inputs FILE with one a line"
        )


def _limits(memory_mib: int | None) -> limits_.Limits:
    if memory_mib is None:
        return limits_.Limits()
    if memory_mib < MEMORY_MIB_LEAST:
        raise failure.Usage(f"--memory-mib {memory_mib}: must be at least {MEMORY_MIB_LEAST}")
    return limits_.Limits(memory_bytes_max=memory_mib * limits_.MIB)


async def _run(
    text: program.Program,
    bounds: limits_.Limits,
    values: Sequence[bytes],
    *,
    timeout_ms: int,
    as_json: bool,
) -> bool:
    """Whether every input gave a result. Nothing of the cell is left afterwards."""
    from loopai.sandbox import doctor, pool  # noqa: PLC0415 (kept from `loopai --help`)

    try:
        await doctor.require(bounds)
    except doctor.Unavailable as error:
        raise failure.Usage(f"{error} (`loopai sandbox doctor` says more)") from error
    cells = pool.CellPool(bounds, cells_max=1)
    try:
        _require(text.language, cells.languages)
        return await _each(cells, text, values, timeout_ms=timeout_ms, as_json=as_json)
    finally:
        await cells.close()


def _require(language: messages.Language, known: Iterable[messages.Language]) -> None:
    if language not in known:
        raise failure.Usage(
            f"no runtime for {language} on this machine: pip install 'loopai[javascript]'"
        )


async def _each(
    cells: "pool.CellPool",
    text: program.Program,
    values: Sequence[bytes],
    *,
    timeout_ms: int,
    as_json: bool,
) -> bool:
    from loopai.sandbox import enclosure  # noqa: PLC0415 (kept from `loopai --help`)

    # Loaded first, so that a program that does not load says so to a person once and not for every
    # input. Who reads JSON has an object for each all the same.
    try:
        await cells.load(text)
    except program.LoadError as error:
        refused = outcome.Outcome(
            kind="error", error_type="LoadError", message=str(error), line=error.line
        )
        if as_json:
            for _ in values:
                output.print_line(_json(refused))
        else:
            _complain(refused, "")
        return False
    except enclosure.EnclosureError as error:
        raise failure.Usage(f"the cell does not start: {error}") from error
    well = True
    for begin in range(0, len(values), ITEMS_MAX):
        some = values[begin : begin + ITEMS_MAX]
        outcomes = await cells.run(text, some, [float(timeout_ms)] * len(some))
        for number, ended in enumerate(outcomes, begin + 1):
            well = well and ended.kind == "success"
            if as_json:
                output.print_line(_json(ended))
            else:
                _print(ended, number if len(values) > 1 else None)
    return well


def _json(ended: outcome.Outcome) -> str:
    fields = msgspec.structs.asdict(ended) | {"output": msgspec.Raw(ended.output or b"null")}
    return msgspec.json.encode(Line(**fields)).decode()


def _print(ended: outcome.Outcome, number: int | None) -> None:
    """One of several has its *number*, and a line on stdout whatever became of it."""
    transcript.printed(ended.stdout)
    if ended.output is not None:
        output.print_line(ended.output.decode())
    elif number is not None:
        output.print_line("")
    if ended.kind != "success":
        _complain(ended, "" if number is None else f"input {number}: ")


def _complain(ended: outcome.Outcome, where: str) -> None:
    transcript.failed(ended.kind, ended.error_type, ended.message, ended.traceback, where=where)


def _hurry() -> None:
    # bubblewrap dies with its parent, and the kernel ends all that is in the cell with it.
    os._exit(130)
