"""The main job against a running Loopai: make a program from examples, then try it on all else."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from loopai import settings
from loopai.cli import api, chunks, failure, generation, labelled
from streams import connection, messages, replay

GENERATE_S_MAX: Final = 120.0
AUDIT_S_MAX: Final = 15.0
AUDIT_POLL_S: Final = 0.2
SINGLE_MAX: Final = 5_000
"""Rows that are executed one by one; all of them are in the batch."""


class Progress(Protocol):
    """Where the trial says how far it is."""

    def stage(self, text: str) -> None:
        """A step begins, or goes on with something else."""

    def advance(self, done: int, total: int) -> None:
        """*done* of the *total* of this step are over."""

    def generated(self, artifact: messages.ProgramArtifact) -> None:
        """There is a program."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo reports, and its JSON. Shares are between 0 and 1."""

    task: str
    engine: str
    version: int
    examples: int
    unseen: int
    held_out: int
    held_out_accuracy: float
    confidence_score: float
    accuracy: float
    """On the unseen rows, as the batch answered them; a failed execution counts as wrong."""
    executions: int
    failed: int
    audited: int
    p50_ms: float
    p99_ms: float
    single_per_s: float
    batch_per_s: float
    generation_s: float
    program_bytes: int


class Singles(msgspec.Struct, frozen=True, kw_only=True):
    ids: tuple[str, ...]
    latencies_ms: tuple[float, ...]
    duration_s: float
    failed: int


class Bulk(msgspec.Struct, frozen=True, kw_only=True):
    results: tuple[api.BatchResult, ...]
    """In the order of the rows."""
    duration_s: float


class NotActive(failure.Failure):
    """The program was made, but is not good enough to answer."""


async def run(
    client: api.Api, nats_url: str, data: labelled.Labelled, *, seed: int,
    accuracy_target: float, progress: Progress,
) -> Result:  # fmt: skip
    """Do the whole job and measure it. NotActive when the program stays a draft."""
    progress.stage("creating the task")
    tenant = await _create(client, data, accuracy_target)
    artifact = await _generate(client, data.name, seed, progress)
    progress.generated(artifact)
    singles = await _singly(client, data, progress)
    bulk = await _in_bulk(client, data, progress)
    progress.stage("counting the audit records")
    batched = [each.execution_id for each in bulk.results if each.execution_id]
    executions = len(singles.ids) + len(batched)
    audited = await _audited(nats_url, tenant, data.name, {*singles.ids, *batched}, executions)
    evaluation = artifact.evaluation or _no_evaluation()
    return Result(
        task=data.name,
        engine=artifact.engine,
        version=artifact.version,
        examples=len(data.examples),
        unseen=len(data.unseen),
        held_out=evaluation.examples_held_out,
        held_out_accuracy=evaluation.held_out_accuracy,
        confidence_score=artifact.confidence_score or 0.0,
        accuracy=accuracy(data.unseen, bulk.results, evaluation.tolerance),
        executions=executions,
        failed=singles.failed + sum(each.status != "success" for each in bulk.results),
        audited=audited,
        p50_ms=round(percentile(singles.latencies_ms, 50), 3),
        p99_ms=round(percentile(singles.latencies_ms, 99), 3),
        single_per_s=round(len(singles.ids) / singles.duration_s, 1),
        batch_per_s=round(len(bulk.results) / bulk.duration_s, 1),
        generation_s=round(artifact.generation_time_sec, 3),
        program_bytes=artifact.size_bytes,
    )


async def _create(client: api.Api, data: labelled.Labelled, accuracy_target: float) -> str:
    """The tenant whose task it is: that of the key."""
    answer = await client.post("/api/v1/tasks", new_task(data, accuracy_target))
    return api.decode(answer, messages.TaskSpecification).tenant


def new_task(data: labelled.Labelled, accuracy_target: float) -> bytes:
    """The body that creates the task of *data*, with its examples."""
    return msgspec.json.encode(
        {
            "name": data.name,
            "description": data.description,
            "input_schema": data.input_schema,
            "output_schema": data.output_schema,
            "examples": data.task_examples,
            "accuracy_target": accuracy_target,
        }
    )


async def _generate(
    client: api.Api, task: str, seed: int, progress: Progress
) -> messages.ProgramArtifact:
    operation = await generation.generate(
        client,
        task,
        generation.Request(seed=seed),
        end_s=time.monotonic() + GENERATE_S_MAX,
        stage=lambda stage: progress.stage(f"generating a program: {stage}"),
    )
    if operation.status == "failed":
        raise failure.Failure(generation.why_failed(operation))
    if operation.version is None:
        raise failure.Failure(f"no program was generated within {GENERATE_S_MAX:g} s")
    path = api.task_path(task, "artifacts", operation.version)
    artifact = api.decode(await client.get(path), messages.ProgramArtifact)
    if not operation.activated:
        progress.generated(artifact)
        raise NotActive(generation.why_not_active(operation, artifact))
    return artifact


async def _singly(client: api.Api, data: labelled.Labelled, progress: Progress) -> Singles:
    path = api.task_path(data.name, "execute")
    rows = data.unseen[:SINGLE_MAX]
    progress.stage("executing one by one")
    ids, latencies_ms, failed = [], [], 0
    began = time.perf_counter()
    for at, row in enumerate(rows, start=1):
        body = b'{"input":%b}' % bytes(row.input)
        sent = time.perf_counter()
        answer = await client.post(path, body)
        latencies_ms.append(1000 * (time.perf_counter() - sent))
        execution = api.decode(answer, api.Execution)
        ids.append(execution.id)
        failed += execution.status != "success"
        progress.advance(at, len(rows))
    return Singles(
        ids=tuple(ids),
        latencies_ms=tuple(latencies_ms),
        duration_s=time.perf_counter() - began,
        failed=failed,
    )


async def _in_bulk(client: api.Api, data: labelled.Labelled, progress: Progress) -> Bulk:
    defaults = settings.Settings()
    bodies = chunks.bodies(
        data.name,
        [row.input for row in data.unseen],
        items_max=defaults.batch_items_max,
        bytes_max=defaults.batch_bytes_max,
    )
    progress.stage("executing as a batch")
    results: list[api.BatchResult] = []
    duration_s = 0.0
    for body in bodies:
        sent = time.perf_counter()
        answer = await client.post("/api/v1/batch/execute", body)
        duration_s += time.perf_counter() - sent
        results += api.decode(answer, api.Batch).results
        progress.advance(len(results), len(data.unseen))
    if [each.id for each in results] != [str(at) for at in range(len(data.unseen))]:
        raise failure.Failure("the batch was not answered item by item, in order")
    return Bulk(results=tuple(results), duration_s=duration_s)


async def _audited(nats_url: str, tenant: str, task: str, ids: set[str], executions: int) -> int:
    """How many of *ids* the audit stream holds; waits a little for the last of them."""
    connected = await connection.connect(nats_url, name="loopai-demo")
    end = time.monotonic() + AUDIT_S_MAX
    try:
        while True:
            found = {
                record.id
                async for record in replay.records(connected, tenant=tenant, task=task)
                if record.id in ids
            }
            if len(found) == executions or time.monotonic() > end:
                return len(found)
            await asyncio.sleep(AUDIT_POLL_S)
    finally:
        await connected.close()


def accuracy(
    rows: Sequence[labelled.Row], results: Sequence[api.BatchResult], tolerance: float | None
) -> float:
    """The share of *results* that are right: equal, or for estimates within *tolerance*."""
    right = sum(
        is_right(row.output, result, tolerance) for row, result in zip(rows, results, strict=True)
    )
    return right / len(rows)


def is_right(expected: labelled.Value, result: api.BatchResult, tolerance: float | None) -> bool:
    if result.status != "success":
        return False
    actual = msgspec.json.decode(result.output)
    if tolerance is None:
        return bool(actual == expected)
    numbers = isinstance(actual, int | float) and isinstance(expected, int | float)
    return numbers and abs(actual - expected) <= tolerance


def percentile(values: Sequence[float], share: int) -> float:
    """The *share*-th percentile (1 to 99) of at least one value."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def _no_evaluation() -> messages.Evaluation:
    return messages.Evaluation(
        examples_seen=0, examples_held_out=0, held_out_accuracy=0.0, lower_bound=0.0
    )
