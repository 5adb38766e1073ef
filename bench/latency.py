"""A warm lone caller, HTTP to HTTP: every answer durable and recorded before it is sent."""

import asyncio
import contextlib
import http.client
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Final

import httpx

from bench import product, report
from loopai.embedded.broker import Sync

ROUNDS = 5
CALLS_A_ROUND = 300
P50_S_MAX: Final[Mapping[Sync, float]] = {"always": 5e-3, "default": 2.5e-3}
MODES: tuple[Sync, Sync] = ("always", "default")


def measure() -> report.Report:
    """Measure a lone caller; takes about half a minute."""
    seconds = asyncio.run(_measure())
    quantiles = {mode: _quantiles(seconds[mode]) for mode in MODES}
    rows = [
        {
            "broker's sync_interval": mode,
            "p50": report.Figure(p50, "s"),
            "p99": report.Figure(p99, "s"),
            "per second": report.Figure(1 / p50, "a second"),
            "target": f"p50 ≤ {report.Figure(P50_S_MAX[mode], 's')}",
            "holds": "yes" if p50 <= P50_S_MAX[mode] else "NO",
        }
        for mode, (p50, p99) in quantiles.items()
    ]
    panel = report.Panel(
        title="from request to answer, in ms (less is better)",
        groups=["p50", "p99"],
        series=[
            report.Series(
                name=f"sync_interval: {mode}",
                role="ours",
                values=[value * 1e3 for value in of_mode],
            )
            for mode, of_mode in quantiles.items()
        ],
    )
    return report.Report(title="lone caller", columns=list(rows[0]), rows=rows, panels=[panel])


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    return statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.99)]


async def _measure() -> dict[Sync, list[float]]:
    """Both modes in turn, A B A B, so that a machine that slows down does so for both."""
    seconds: dict[Sync, list[float]] = {mode: [] for mode in MODES}
    async with product.running("always") as always, product.running("default") as default:
        clients: dict[Sync, httpx.AsyncClient] = {"always": always, "default": default}
        for _ in range(ROUNDS):
            for mode in MODES:
                seconds[mode] += await asyncio.to_thread(_calls, clients[mode].base_url.netloc)
    return seconds


def _calls(address: bytes) -> list[float]:
    """Seconds of each call on one connection, by a client that costs little itself."""
    body = json.dumps({"input": product.INPUT})
    seconds = []
    with contextlib.closing(http.client.HTTPConnection(address.decode())) as connection:
        for _ in range(CALLS_A_ROUND):
            started = time.perf_counter()
            connection.request("POST", product.EXECUTE, body)
            answer = connection.getresponse()
            content = answer.read()
            seconds.append(time.perf_counter() - started)
            if answer.status != http.HTTPStatus.OK:
                raise RuntimeError(content.decode())
    return seconds
