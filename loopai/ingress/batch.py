"""`POST /api/v1/batch/execute`: many inputs in one request, each with its own result."""

import asyncio
import time
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors, views
from loopai.ingress import bodies, dispatch, execute, problems, services
from streams import ids
from streams.messages import ExecuteItem, ExecutionError, TaskHead

CONCURRENCY = 2_048
"""Items of one batch on their way at once: eight full messages, enough to keep the bus busy."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: msgspec.Raw
    id: str | None = None
    force_validation: bool = False


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task_id: str
    """Id or name."""
    items: list[Item]
    version: int | None = None
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=CONCURRENCY)] = CONCURRENCY
    stop_on_first_error: bool = False
    timeout_ms: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """The caller's id of the item, or its index."""
    execution_id: str | None
    status: str
    output: msgspec.Raw = views.NULL
    error_message: str | None = None
    error: ExecutionError | None = None
    version: int | None = None
    latency_ms: float | None = None
    sampled_for_validation: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    batch_id: str
    task_id: str
    total: int
    succeeded: int
    failed: int
    """Every item that has another status than `success`."""
    duration_ms: float
    results: list[Result]


_decoder = msgspec.json.Decoder(Batch)


async def execute_batch(request: Request) -> Response:
    started = time.perf_counter()
    shared = services.of(request)
    raw = await bodies.read(request, shared.settings.batch_bytes_max)
    body = bodies.decode(raw, _decoder)
    if len(body.items) > shared.settings.batch_items_max:
        message = f"a batch holds at most {shared.settings.batch_items_max} items"
        raise errors.ApiError(
            "INVALID_REQUEST", message, errors=(errors.FieldError("/items", message),)
        )
    task = await shared.catalog.task(services.TENANT, body.task_id)
    timeout_ms = execute.timeout(body.timeout_ms, shared)
    await execute.require_version(shared, task, body.version)
    run = _Run(shared, task, body, timeout_ms, problems.trace_id(request))
    results = await run.all()
    succeeded = sum(result.status == "success" for result in results)
    return bodies.json(
        Answer(
            batch_id=ids.new(),
            task_id=task.id,
            total=len(results),
            succeeded=succeeded,
            failed=len(results) - succeeded,
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
            results=results,
        )
    )


class _Run:
    """One batch on its way: a few tasks take items in order, each waits for its own result."""

    def __init__(
        self,
        shared: services.Services,
        task: TaskHead,
        body: Batch,
        timeout_ms: int,
        trace_id: str,
    ) -> None:
        self._shared = shared
        self._task = task
        self._body = body
        self._timeout_ms = timeout_ms
        self._trace_id = trace_id
        self._stopped = False

    async def all(self) -> list[Result]:
        items = self._body.items
        results: list[Result | None] = [None] * len(items)
        order = iter(range(len(items)))

        async def take() -> None:
            for index in order:
                results[index] = await self._one(index, items[index])

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._body.max_concurrency, len(items))):
                group.create_task(take())
        return [result for result in results if result is not None]

    async def _one(self, index: int, wanted: Item) -> Result:
        name = str(index) if wanted.id is None else wanted.id
        if self._stopped:
            return _failed(name, "cancelled", "CANCELLED", "an earlier item failed")
        try:
            item = self._item(index, wanted)
        except errors.ApiError as error:
            result = _failed(name, "rejected", error.code, error.detail)
            # Other requests get their turn between items that never wait for anything.
            await asyncio.sleep(0)
        else:
            result = await self._executed(item, name)
        if result.status != "success" and self._body.stop_on_first_error:
            self._stopped = True
        return result

    def _item(self, index: int, wanted: Item) -> ExecuteItem:
        return dispatch.item(
            execute.checked_input(self._task, wanted.input, f"/items/{index}/input"),
            version=self._body.version,
            timeout_ms=self._timeout_ms,
            force_validation=wanted.force_validation,
            trace_id=self._trace_id,
        )

    async def _executed(self, item: ExecuteItem, name: str) -> Result:
        try:
            record = await self._shared.dispatcher.execute(self._task, item, "bulk")
        except errors.ApiError as error:
            status = "timeout" if error.code == "DEADLINE_PASSED" else "rejected"
            return _failed(name, status, error.code, error.detail, item.id)
        return Result(
            id=name,
            execution_id=record.id,
            status=record.status,
            output=views.NULL if record.output is None else msgspec.Raw(record.output),
            error_message=record.error.message if record.error else None,
            error=record.error,
            version=record.version,
            latency_ms=record.latency_ms.total,
            sampled_for_validation=record.sampled_for_validation,
        )


def _failed(
    name: str, status: str, code: str, message: str, execution_id: str | None = None
) -> Result:
    return Result(
        id=name,
        execution_id=execution_id,
        status=status,
        error_message=message,
        error=ExecutionError(type=code, message=message),
    )


routes = [Route("/batch/execute", execute_batch, methods=["POST"])]
