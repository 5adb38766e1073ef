"""The generator pool: from a task to a program, proven on examples that its engine did not see."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from loopai import errors
from loopai.catalog import catalog
from loopai.catalog.stores import store as stores
from loopai.sandbox import admission, outcome, pool, program
from loopai.synthesis import engine, examples, selection
from streams import codec, publisher, store, subjects, topology
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import (
    Event,
    GenerateRequest,
    Operation,
    Problem,
    ProgramArtifact,
    TaskSpecification,
)
from workers import cells, runtime, slots

NAME: Final = "generator"
HANDLE_S_MAX: Final = 900.0
CELLS_MAX: Final = 4
EVALUATION_ITEMS_MAX: Final = 256
ENDED: Final = ("succeeded", "failed")


@contextlib.asynccontextmanager
async def opened(host: runtime.Host) -> AsyncIterator[runtime.Pool]:
    """The pool. StartupError when this machine cannot keep programs in."""
    async with cells.opened(host, cells_max=CELLS_MAX, writes=True) as (known, running):
        generator = Generator(host.connection, known, running)
        count = host.settings.generator_slots
        yield runtime.Pool(
            name=NAME,
            sources=(runtime.Source(spec=topology.GENERATOR, prefetch=count),),
            limits=slots.Limits(slots=count),
            handle=generator.handle,
            handle_s_max=HANDLE_S_MAX,
        )


class Generator:
    """Handles deliveries of GENERATE. Dependencies are closed by whoever made them."""

    def __init__(
        self, connection: Connection, known: catalog.Catalog, cells: pool.CellPool
    ) -> None:
        self._connection = connection
        self._catalog = known
        self._cells = cells
        self._operations = store.Bucket(connection, topology.OPERATIONS, codec.OPERATION)

    async def handle(self, delivery: Delivery) -> None:
        """Generate, judge, store, activate; the operation says how far it is and how it ended."""
        request = codec.GENERATE.decode(delivery.payload)
        entry = await self._operations.get(request.operation_id)
        if entry is None:
            raise errors.Rejected(f"no operation {request.operation_id}")
        operation = entry.value
        if operation.status in ENDED:
            return  # a redelivery of what was done
        try:
            ended = await self._generate(request, operation, delivery)
        except engine.CannotGenerate as error:
            problem = Problem(code=error.code, message=str(error))
            ended = _ended(operation, "failed", str(error), error=problem)
        except errors.ApiError as error:
            if error.status >= 500 and not delivery.is_last:  # noqa: PLR2004 (it may be mended by then)
                raise errors.Transient(
                    error.detail, retry_after_s=error.retry_after_s or runtime.NAK_S
                ) from error
            problem = Problem(code=error.code, message=error.detail)
            ended = _ended(operation, "failed", error.detail, error=problem)
        await self._operations.put(operation.id, ended)

    async def _generate(
        self, request: GenerateRequest, operation: Operation, delivery: Delivery
    ) -> Operation:
        task = await self._catalog.specification(operation.tenant, operation.task)
        if task.id != request.task_id:
            raise errors.ApiError("TASK_NOT_FOUND", "the task was deleted meanwhile")
        author = _author(operation)
        artifact = await self._made_by(author, task.id)
        if artifact is None:
            artifact = await self._make(request, operation, task, delivery)
            _require_lease(delivery)
        reason = artifact.status_reason
        if artifact.status == "draft" or not request.activate:
            return _ended(operation, "succeeded", reason, version=artifact.version)
        await self._catalog.activate(artifact, by=author, now=datetime.now(UTC))
        await self._show(task, artifact)
        return _ended(operation, "succeeded", reason, version=artifact.version, activated=True)

    async def _made_by(self, author: str, task_id: str) -> ProgramArtifact | None:
        """What an earlier delivery of the same operation stored before it was cut off."""
        versions = await self._catalog.artifacts(task_id)
        return next((each for each in versions if each.created_by == author), None)

    async def _make(
        self,
        request: GenerateRequest,
        operation: Operation,
        task: TaskSpecification,
        delivery: Delivery,
    ) -> ProgramArtifact:
        started = time.perf_counter()
        await self._stage(operation, "fitting", delivery)
        candidates = await asyncio.to_thread(examples.candidates, task, request.seed)
        await self._stage(operation, "evaluating", delivery)

        async def run(
            code: str, inputs: Sequence[bytes], timeout_ms: float
        ) -> Sequence[outcome.Outcome]:
            loaded = program.Program(tenant=task.tenant, digest=stores.digest(code), code=code)
            outcomes: list[outcome.Outcome] = []
            for start in range(0, len(inputs), EVALUATION_ITEMS_MAX):
                part = inputs[start : start + EVALUATION_ITEMS_MAX]
                outcomes += await self._cells.run(loaded, part, [timeout_ms] * len(part))
            return outcomes

        winner = await selection.best(candidates, run)
        admitted = await self._admit(task.tenant, winner)
        _require_lease(delivery)
        artifact = catalog.new_artifact(
            task.id, language="python", created_by=_author(operation), now=datetime.now(UTC)
        )
        return await self._catalog.create_artifact(
            _described(artifact, winner, admitted, task, time.perf_counter() - started),
            winner.candidate.code,
        )

    async def _admit(self, tenant: str, winner: selection.Winner) -> admission.Admission:
        """How the winner may be run, tried on examples that its engine did not see."""
        code = winner.candidate.code
        tried = program.Program(tenant=tenant, digest=stores.digest(code), code=code)
        inputs = [bytes(example.input) for example in winner.candidate.held_out]
        try:
            return await admission.admit(self._cells, tried, inputs)
        except program.LoadError as error:
            # It answered a moment ago.
            raise errors.Transient(f"the program does not load any more: {error}") from error

    async def _stage(self, operation: Operation, stage: str, delivery: Delivery) -> None:
        _require_lease(delivery)
        await self._operations.put(
            operation.id,
            msgspec.structs.replace(
                operation, status="running", stage=stage, updated_at=datetime.now(UTC)
            ),
        )

    async def _show(self, task: TaskSpecification, artifact: ProgramArtifact) -> None:
        data = {"version": artifact.version, "confidence_score": artifact.confidence_score}
        event = Event(
            kind="artifact",
            task=task.name,
            tenant=task.tenant,
            time=datetime.now(UTC),
            data=msgspec.json.encode(data),
        )
        await publisher.publish(
            self._connection,
            subjects.event("artifact", task.tenant, task.name),
            codec.EVENT.encode(event),
            message_id=f"active:{artifact.id}",
        )


def _require_lease(delivery: Delivery) -> None:
    """Before every write: another worker may have ended the operation meanwhile."""
    if not delivery.leased:
        raise runtime.LeaseLost


def _author(operation: Operation) -> str:
    return f"operation {operation.id}"


def _described(
    artifact: ProgramArtifact,
    winner: selection.Winner,
    admitted: admission.Admission,
    task: TaskSpecification,
    took_s: float,
) -> ProgramArtifact:
    """*artifact* with what is known of the winner. Below the task's target it stays a draft."""
    evaluation = winner.judgement.evaluation
    share = (
        f"{evaluation.held_out_accuracy:.1%} of {evaluation.examples_held_out} "
        "held-out examples answered right"
    )
    reached = evaluation.held_out_accuracy >= task.accuracy_target
    if not reached:
        share += f", below the target of {task.accuracy_target:.1%}; give more or better examples"
        if winner.judgement.failures:
            share += f". For instance {winner.judgement.failures[0]}"
    if admitted.stateful:
        share += f"; {admitted.reason}"
    return msgspec.structs.replace(
        artifact,
        synthesis_strategy=winner.candidate.strategy,
        engine=winner.candidate.engine,
        confidence_score=evaluation.lower_bound,
        complexity_metrics=winner.complexity,
        evaluation=evaluation,
        generation_time_sec=round(took_s, 3),
        isolation=admitted.isolation,
        status="validated" if reached else "draft",
        status_reason=share,
    )


def _ended(operation: Operation, status: str, message: str, **fields: object) -> Operation:
    return msgspec.structs.replace(
        operation,
        status=status,
        stage="",
        message=message,
        updated_at=datetime.now(UTC),
        **fields,
    )
