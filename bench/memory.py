"""Resident memory of each process, idle and after 10,000 executions."""

import asyncio
import os
from pathlib import Path

import httpx
from rich import console, table

from bench import product

EXECUTIONS = 10_000
AT_ONCE = 64
LIMIT_MB = 100
"""What the ingress and the executor's host process may take."""


def main() -> None:
    """Measure and print one table; takes about half a minute."""
    idle, after = asyncio.run(_measure())
    shown = table.Table(
        "process", "idle", f"after {EXECUTIONS:,}", "limit", title="resident memory"
    )
    for name, before_mb in idle.items():
        limit = f"{LIMIT_MB} MB" if name in {"loopai.ingress", "workers executor"} else ""
        shown.add_row(name, f"{before_mb:.0f} MB", f"{after[name]:.0f} MB", limit)
    console.Console().print(shown)


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
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text().rpartition(") ")[2].split()
            words = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if int(stat[1]) == os.getpid() and words[0]:
            name = (
                " ".join(words[words.index("-m") + 1 :]) if "-m" in words else Path(words[0]).name
            )
            found[name.strip()] = int(stat[21]) * os.sysconf("SC_PAGESIZE") / 1e6
    return found
