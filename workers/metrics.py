"""What a worker shows to Prometheus: read when it is asked, so that work pays nothing for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loopai import errors

log = structlog.get_logger()

VARIABLE: Final = "LOOPAI_METRICS"


def registry() -> CollectorRegistry:
    """A registry that knows this process and nothing yet of what it does."""
    made = CollectorRegistry()
    for kind in (ProcessCollector, PlatformCollector, GCCollector):
        kind(registry=made)
    return made


@contextlib.asynccontextmanager
async def served(shown: CollectorRegistry, address: tuple[str, int] | None) -> AsyncIterator[None]:
    """Serve *shown* at `/metrics` of *address*, if any, in a thread while inside.

    StartupError when the address is taken or not ours.
    """
    if address is None:
        yield
        return
    host, port = address
    try:
        server, _ = start_http_server(port, addr=host, registry=shown)
    except OSError as error:
        raise errors.StartupError(
            f"cannot serve metrics on {host}:{port} ({error.strerror}); "
            f"stop what uses it, or choose another with {VARIABLE}"
        ) from error
    log.info("metrics served", host=host, port=server.server_port)
    try:
        yield
    finally:
        # It looks up twice a second.
        await asyncio.to_thread(server.shutdown)
        server.server_close()


class WorkerCollector(Collector):
    """Who this worker is, and how busy."""

    def __init__(self, pool: str, instance: str, slots: int, running: Callable[[], int]) -> None:
        self._pool = pool
        self._instance = instance
        self._slots = slots
        self._running = running

    def collect(self) -> Iterable[Metric]:
        """Called by the server's thread."""
        info = GaugeMetricFamily(
            "loopai_worker_info", "1: which worker this is.", labels=("pool", "instance")
        )
        info.add_metric((self._pool, self._instance), 1)
        yield info
        yield GaugeMetricFamily(
            "loopai_worker_slots", "Deliveries that this worker handles at once.", self._slots
        )
        yield GaugeMetricFamily(
            "loopai_worker_deliveries", "Deliveries that are being handled.", self._running()
        )
