"""Activations under load: how long until executors answer with the new version, and what fails.

Others keep the stack at half of what it did at 64 connections just before. Each activation is of a
version that no executor has run before, so that its text is read and its cell made on the way; each
rollback is to the version before, 50 times. A lone caller asks again and again: the time is from
when the change is asked for until an answer has the new version, whole calls included.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from bench import product, report, wrk
from loopai.catalog import catalog
from loopai.catalog.stores import filesystem
from streams import codec, replay, subjects, topology

ACTIVATIONS: Final = 200
ROLLBACKS: Final = 50
CONNECTIONS: Final = 64
CAPACITY_S: Final = 2
LOAD: Final = 0.5
LOAD_S: Final = 5
"""Of the others at a time; they come again until all is measured."""
EVERY_S: Final = 0.1
"""From an answer with the new version to the next change."""
HEARD_S_MAX: Final = 30.0
P99_S_MAX: Final = 0.25
ROLLOUT: Final = f"/api/v1/tasks/{product.TASK}/rollout"


class Load(msgspec.Struct, kw_only=True):
    """What the others did."""

    requests: int = 0
    failed: int = 0
    """Refused, or without an answer."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds until the new version answered, of each change; and what failed meanwhile."""

    activations: Sequence[float]
    rollbacks: Sequence[float]
    load: Load
    calls: int
    """Of the lone caller."""
    failed: int
    """Executions of all of them that are recorded with another status than success."""


def measure() -> report.Report:
    """Measure activations and rollbacks; takes about a minute."""
    wrk.find()
    return tabulate(asyncio.run(_measure()))


async def _measure() -> Found:
    async with product.opened("always") as stack:
        versions = await _versions(stack)
        async with _loaded(stack) as load:
            caller = _Caller(stack)
            activations = [await caller.heard({"active": each}, each) for each in versions]
            back = [await caller.heard(None, each) for each in versions[-2 : -2 - ROLLBACKS : -1]]
        await product.settled(stack)
        return Found(
            activations=activations,
            rollbacks=back,
            load=load,
            calls=caller.calls,
            failed=await _failed(stack),
        )


async def _versions(stack: product.Product) -> list[int]:
    """Versions to activate, past the API: an upload tries its program in a cell."""
    task_id = (await stack.http.get(ROLLOUT)).json()["task_id"]
    texts = filesystem.FilesystemStore(stack.data_dir / "artifacts")
    made = []
    async with catalog.Catalog(stack.bus, texts).opened() as known:
        first = await known.artifact(task_id, 1)
        for number in range(ACTIVATIONS):
            new = msgspec.structs.replace(first, status="validated", deployed_at=None)
            # A comment makes it a program of its own: cells are shared by what has the same text.
            stored = await known.create_artifact(new, f"# {number}\n{product.CODE}")
            made.append(stored.version)
    return made


class _Caller:
    """Changes the rollout and asks until it is heard of. `calls` counts what it asked."""

    def __init__(self, stack: product.Product) -> None:
        self._http = stack.http
        self.calls = 0

    async def heard(self, change: dict[str, int] | None, version: int) -> float:
        """Make *change*, or roll back, and return the seconds until *version* answers."""
        began = time.perf_counter()
        if change is None:
            answer = await self._http.post(f"{ROLLOUT}/rollback")
        else:
            answer = await self._http.put(ROLLOUT, json=change)
        answer.raise_for_status()
        async with asyncio.timeout(HEARD_S_MAX):
            while await self._version() != version:
                pass
        took = time.perf_counter() - began
        await asyncio.sleep(EVERY_S)
        return took

    async def _version(self) -> int:
        self.calls += 1
        answer = await self._http.post(product.EXECUTE, json={"input": product.INPUT})
        found: int = answer.raise_for_status().json()["version"]
        return found


@contextlib.asynccontextmanager
async def _loaded(stack: product.Product) -> AsyncIterator[Load]:
    """Others call while inside; all of theirs are in the Load behind it."""
    url = f"{stack.url}{product.EXECUTE}"
    capacity = await wrk.run(url, CONNECTIONS, CAPACITY_S)
    load, done = Load(), asyncio.Event()

    async def call() -> None:
        seed = 0
        while not done.is_set():
            seed += 1
            found = await wrk.run(url, CONNECTIONS, LOAD_S, rate=capacity.rate * LOAD, seed=seed)
            load.requests += found.requests
            load.failed += found.refused + found.broken

    calling = asyncio.create_task(call())
    try:
        yield load
    finally:
        done.set()
        await calling


async def _failed(stack: product.Product) -> int:
    reading = replay.read(stack.bus, topology.RECORDS.name, subjects.RECORD_ALL)
    return sum(
        [
            sum(record.status != "success" for record in codec.RECORDS.decode(each.payload).records)
            async for each in reading
        ]
    )


def tabulate(found: Found) -> report.Report:
    """The table and the picture, and whether the targets are met."""
    kinds = {"activation": found.activations, "rollback": found.rollbacks}
    quantiles = {kind: _quantiles(took) for kind, took in kinds.items()}
    failures = [
        f"{kind}: p99 {p99 * 1e3:,.0f} ms until the new version answers, "
        f"target {P99_S_MAX * 1e3:,.0f} ms"
        for kind, (_, p99, _) in quantiles.items()
        if p99 > P99_S_MAX
    ]
    if failed := found.failed + found.load.failed:
        failures.append(f"{failed} requests failed while versions changed")
    rows: list[report.Row] = [
        {
            "change": kind,
            "times": report.Figure(len(kinds[kind]), ""),
            "p50": report.Figure(p50, "s"),
            "p99": report.Figure(p99, "s"),
            "longest": report.Figure(longest, "s"),
            "target of p99": report.Figure(P99_S_MAX, "s"),
        }
        for kind, (p50, p99, longest) in quantiles.items()
    ]
    panel = report.Panel(
        title="from a change to the first answer with the new version, in ms (less is better)",
        groups=list(kinds),
        series=[
            report.Series(
                name=name, role="part", values=[quantiles[kind][at] * 1e3 for kind in kinds]
            )
            for at, name in enumerate(("p50", "p99"))
        ],
    )
    note = (
        f"{found.load.requests + found.calls:,} requests were made meanwhile; "
        f"{failed or 'none'} failed."
    )
    return report.Report(
        title="rollout",
        columns=list(rows[0]),
        rows=rows,
        notes=[note],
        panels=[panel],
        failures=failures,
    )


def _quantiles(took: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the longest."""
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return cuts[49], cuts[98], max(took)
