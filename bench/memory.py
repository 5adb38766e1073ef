"""Memory of each process: idle, at its most while 64 connections load it, and at rest after that.

RSS is what a process has in memory; PSS divides each page by how many processes have it mapped, so
that it adds up: all of ours share one interpreter. Cells are those of the one executor, with the
blank one that it keeps ready; only root may read theirs.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from bench import processes, product, report, wrk

CONNECTIONS = 64
LOAD_S = 8
SAMPLE_S = 0.25
REST_S = 2.0
LIMIT_MB = 100
"""What the ingress and the executor's host process may take, as RSS."""
LIMITED: Final = frozenset({"loopai.ingress", "workers executor"})
CELLS: Final = "cells"
MOMENTS: Final = ("idle", "under load", "after")


class Memory(msgspec.Struct, frozen=True):
    rss_mb: float
    pss_mb: float | None
    """None where it may not be read."""


Reading = Mapping[str, Memory]
"""By what a process runs."""


def measure() -> report.Report:
    """Measure the stack's processes; takes about a quarter of a minute."""
    wrk.find()
    return tabulate(*asyncio.run(_measure()))


async def _measure() -> tuple[Mapping[str, Reading], int]:
    """Readings by moment, and how many executions the load was."""
    async with product.opened("always") as stack:
        idle = reading(stack)
        url = f"{stack.url}{product.EXECUTE}"
        loading = asyncio.create_task(wrk.run(url, CONNECTIONS, LOAD_S))
        most = idle
        while not loading.done():
            await asyncio.sleep(SAMPLE_S)
            most = larger(most, reading(stack))
        load = await loading
        await asyncio.sleep(REST_S)
        return dict(zip(MOMENTS, (idle, most, reading(stack)), strict=True)), load.requests


def reading(stack: product.Product) -> Reading:
    """Memory of the processes of *stack* now; those that end meanwhile are left out."""
    found = {}
    cells: list[processes.Process] = []
    for pid, (root, *below) in processes.trees(stack.pids).items():
        found[processes.command(pid)] = Memory(root.resident_mb, _pss_mb(pid))
        cells += below
    parts = [_pss_mb(each.pid) for each in cells]
    known = [each for each in parts if each is not None]
    found[CELLS] = Memory(sum(each.resident_mb for each in cells), sum(known) if known else None)
    return found


def _pss_mb(pid: int) -> float | None:
    try:
        return processes.pss_mb([pid])
    except OSError:  # it has ended, or is not ours to look at
        return None


def larger(one: Reading, other: Reading) -> Reading:
    """The larger figures of both, each by itself."""
    return {
        name: Memory(
            max(one[name].rss_mb, other[name].rss_mb),
            max((one[name].pss_mb or 0.0, other[name].pss_mb or 0.0)) or None,
        )
        if name in one and name in other
        else (one.get(name) or other[name])
        for name in {**one, **other}
    }


def tabulate(readings: Mapping[str, Reading], executions: int) -> report.Report:
    """The table and the picture, and whether the limits hold."""
    names = list(readings["idle"])
    rows = [_row(name, readings) for name in names]
    panel = report.Panel(
        title="resident memory of each process, in MB (less is better)",
        groups=[name for name in names if name != CELLS],
        series=[
            report.Series(
                name=moment,
                role="part",
                values=[_rss(readings, moment, name) for name in names if name != CELLS],
            )
            for moment in MOMENTS
        ],
    )
    return report.Report(
        title="memory",
        columns=list(rows[0]),
        rows=rows,
        notes=[f"The load was {executions:,} executions in {LOAD_S} s."],
        panels=[panel],
        failures=[
            f"{name}: {most:,.1f} MB under load, limit {LIMIT_MB} MB"
            for name in names
            if name in LIMITED and (most := _rss(readings, "under load", name)) > LIMIT_MB
        ],
    )


def _rss(readings: Mapping[str, Reading], moment: str, name: str) -> float:
    found = readings[moment].get(name)
    return found.rss_mb if found else 0.0


def _row(name: str, readings: Mapping[str, Reading]) -> report.Row:
    row: dict[str, report.Figure | str] = {"process": name}
    for moment in MOMENTS:
        found = readings[moment].get(name, Memory(0.0, None))
        # Of processes that share their pages the sum of RSS says nothing.
        rss = "" if name == CELLS else report.Figure(found.rss_mb, "MB")
        pss = "" if found.pss_mb is None else report.Figure(found.pss_mb, "MB")
        row |= {f"RSS {moment}": rss, f"PSS {moment}": pss}
    row["limit"] = report.Figure(LIMIT_MB, "MB") if name in LIMITED else ""
    return row
