"""Resident memory of each process, idle and after 10,000 executions."""

import asyncio
import os
from pathlib import Path

import httpx

from bench import processes, product, report

EXECUTIONS = 10_000
AT_ONCE = 64
LIMIT_MB = 100
"""What the ingress and the executor's host process may take."""


def measure() -> report.Report:
    """Measure the stack's processes; takes about half a minute."""
    idle, after = asyncio.run(_measure())
    limit = report.Figure(LIMIT_MB, "MB")
    rows = [
        {
            "process": name,
            "idle": report.Figure(before_mb, "MB"),
            f"after {EXECUTIONS:,}": report.Figure(after[name], "MB"),
            "limit": limit if name in {"loopai.ingress", "workers executor"} else "",
        }
        for name, before_mb in idle.items()
    ]
    panel = report.Panel(
        title="resident memory of each process, in MB (less is better)",
        groups=list(idle),
        series=[
            report.Series(name="idle", role="ours", values=list(idle.values())),
            report.Series(
                name=f"after {EXECUTIONS:,} executions",
                role="ours",
                values=[after[name] for name in idle],
            ),
        ],
    )
    return report.Report(title="resident memory", columns=list(rows[0]), rows=rows, panels=[panel])


async def _measure() -> tuple[dict[str, float], dict[str, float]]:
    async with product.running("always") as http:
        idle = _resident()
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(_call(http, gate) for _ in range(EXECUTIONS)))
        return idle, _resident()


async def _call(http: httpx.AsyncClient, gate: asyncio.Semaphore) -> None:
    async with gate:
        answer = await http.post(product.EXECUTE, json={"input": product.INPUT})
        answer.raise_for_status()


def _resident() -> dict[str, float]:
    """MB of each child of this process, by what it runs."""
    found = {}
    for process in processes.below(os.getpid()).values():
        try:
            words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        except OSError:  # it has ended
            continue
        if process.parent == os.getpid() and words[0]:
            name = (
                " ".join(words[words.index("-m") + 1 :]) if "-m" in words else Path(words[0]).name
            )
            found[name.strip()] = process.resident_mb
    return found
