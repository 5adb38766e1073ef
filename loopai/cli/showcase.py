"""What `loopai demo` does: a stack in a temporary folder, a trial on it, the report, the end."""

import tempfile
from pathlib import Path
from typing import Final

import msgspec
import typer
import uvloop

from loopai import settings
from loopai.cli import api, failure, interrupt, labelled, output, report, table, trial
from loopai.embedded import broker, stack
from loopai.sandbox import limits

BODY_BYTES_MAX: Final = 3 * 1024 * 1024
"""A task with its examples travels as one body, and rests in one message of the bus (4 MiB)."""
INPUT_BYTES_MAX: Final = limits.Limits().input_bytes_max


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of the command say. `data` None: breast-cancer diagnoses."""

    data: Path | None
    choice: labelled.Choice
    accuracy_target: float
    sync: broker.Sync
    keep: bool
    as_json: bool


def show(plan: Plan) -> None:
    """Run the demo. Failure says what is wrong with the data before anything is started."""
    source = table.read(plan.data) if plan.data else breast_cancer()
    console = output.stderr()
    # Before anything else can be wrong with the rows: it may be the reason.
    for note in source.notes:
        console.print(f"{source.name}: {note}", soft_wrap=True)
    rows = labelled.prepare(source, plan.choice)
    for note in rows.notes:
        console.print(f"{source.name}: {note}", soft_wrap=True)
    check_size(source.name, rows, plan.accuracy_target)
    with report.Bars(console) as bars:
        uvloop.run(_guarded(rows, plan, bars))


async def _guarded(rows: labelled.Labelled, plan: Plan, bars: report.Bars) -> None:
    defaults = settings.Settings()
    folder = tempfile.TemporaryDirectory(prefix="loopai-demo-")
    with folder:
        options = stack.Options(
            http="127.0.0.1:0",
            data_dir=Path(folder.name),
            nats_port=None,
            sync=plan.sync,
            environment={
                "LOOPAI_LOG_LEVEL": "warning",
                "LOOPAI_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
                # The batches are cut to the defaults, whatever else is set here.
                "LOOPAI_BATCH_ITEMS_MAX": str(defaults.batch_items_max),
                "LOOPAI_BATCH_BYTES_MAX": str(defaults.batch_bytes_max),
            },
        )
        running = stack.Stack(options, bars.say)
        try:
            await interrupt.guard(_demo(folder, running, rows, plan, bars), running.kill)
        except interrupt.Interrupted as interrupted:
            raise typer.Exit(128 + interrupted.number) from None


async def _demo(
    folder: tempfile.TemporaryDirectory[str],
    running: stack.Stack,
    rows: labelled.Labelled,
    plan: Plan,
    bars: report.Bars,
) -> None:
    bars.stage("starting the bus, the API and the workers")
    # The folder goes while signals are still caught: an impatient Ctrl-C must not leave half of it.
    with folder:
        async with running, api.Api(running.url, running.first_key) as client:
            result = await _trial(client, running, rows, plan, bars)
    check(result)


async def _trial(
    client: api.Api, running: stack.Stack, rows: labelled.Labelled, plan: Plan, bars: report.Bars
) -> trial.Result:
    result = await trial.run(
        client,
        running.nats_url,
        rows,
        seed=plan.choice.seed,
        accuracy_target=plan.accuracy_target,
        progress=bars,
    )
    bars.stop()
    if plan.as_json:
        output.print_json(msgspec.json.encode(result))
    else:
        output.stdout().print(report.results(result))
    if plan.keep:
        bars.say("loopai", invitation(running, rows))
        await running.watch()
    return result


def check_size(name: str, rows: labelled.Labelled, accuracy_target: float) -> None:
    """Failure when the examples are more than one body may hold, or a row more than one input."""
    examples = len(trial.new_task(rows, accuracy_target))
    if examples > BODY_BYTES_MAX:
        raise failure.Failure(
            f"{name}: the task with its {len(rows.examples)} examples has {examples:,} bytes, and "
            f"{BODY_BYTES_MAX:,} are the most; take fewer with --examples"
        )
    longest = max(len(row.input) for row in (*rows.examples, *rows.unseen))
    if longest > INPUT_BYTES_MAX:
        raise failure.Failure(
            f"{name}: one row has {longest:,} bytes, and {INPUT_BYTES_MAX:,} are the most"
        )


def check(result: trial.Result) -> None:
    """Failure unless every execution is in the audit stream."""
    if result.audited != result.executions:
        raise failure.Failure(
            f"of {result.executions} executions {result.audited} are in the audit stream"
        )


def invitation(running: stack.Stack, rows: labelled.Labelled) -> str:
    """How to go on with a stack that is left running."""
    url, nats_url, key = running.url, running.nats_url, running.first_key
    header = f" -H 'X-Api-Key: {key}'" if key else ""
    variable = f" {api.KEY_VARIABLE}={key}" if key else ""
    body = f'{{"input": {bytes(rows.unseen[0].input).decode()}}}'.replace("'", "'\\''")
    return (
        f"still running until Ctrl-C: {url} (bus {nats_url})\n"
        f"  curl {url}/api/v1/tasks/{rows.name}/execute{header} -d '{body}'\n"
        f"  loopai --help works on it with LOOPAI_URL={url} LOOPAI_NATS_URL={nats_url}{variable}"
    )


def breast_cancer() -> table.Table:
    """The Wisconsin breast-cancer data: 569 patients, 30 measures of cells, and the diagnosis."""
    from sklearn import datasets  # noqa: PLC0415 (two seconds that other data need not wait)

    bunch = datasets.load_breast_cancer()
    names = [str(name) for name in bunch.target_names]
    rows = zip(bunch.data.tolist(), bunch.target.tolist(), strict=True)
    return table.Table(
        name="breast-cancer",
        columns=(*map(str, bunch.feature_names), "diagnosis"),
        rows=tuple((*map(repr, values), names[target]) for values, target in rows),
    )
