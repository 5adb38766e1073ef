"""A warm lone caller, HTTP to HTTP: every answer durable and recorded before it is sent."""

import asyncio
import contextlib
import http.client
import json
import statistics
import time

import httpx

from bench import product, report
from loopai.embedded.broker import Sync

ROUNDS = 5
CALLS_A_ROUND = 300
MODES: tuple[Sync, Sync] = ("always", "default")


def measure() -> report.Report:
    """Measure a lone caller; takes about half a minute."""
    seconds = asyncio.run(_measure())
    rows = []
    for mode in MODES:
        times = sorted(seconds[mode])
        p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
        rows.append(
            {
                "broker's sync_interval": mode,
                "p50": report.Figure(p50, "s"),
                "p99": report.Figure(p99, "s"),
                "per second": report.Figure(1 / p50, "a second"),
            }
        )
    return report.Report(title="lone caller", columns=list(rows[0]), rows=rows)


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
