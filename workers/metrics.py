"""What a worker shows to Prometheus: read when it is asked, so that work pays nothing for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, get_args

import structlog
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loopai import errors
from loopai.sandbox import outcome, statistics

if TYPE_CHECKING:  # a pool without cells need not have them in memory
    from loopai.sandbox import pool

log = structlog.get_logger()

VARIABLE: Final = "LOOPAI_METRICS"
_CAUSES: Final[tuple[str, ...]] = get_args(statistics.Cause)
_KINDS: Final[tuple[str, ...]] = get_args(outcome.OutcomeKind)


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

    def __init__(
        self,
        name: str,
        instance: str,
        slots: int,
        running: Callable[[], int],
        waiting: Callable[[], int],
    ) -> None:
        self._name = name
        self._instance = instance
        self._slots = slots
        self._running = running
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """Called by the server's thread."""
        info = GaugeMetricFamily(
            "loopai_worker_info", "1: which worker this is.", labels=("pool", "instance")
        )
        info.add_metric((self._name, self._instance), 1)
        yield info
        yield GaugeMetricFamily(
            "loopai_worker_slots", "Deliveries that this worker handles at once.", self._slots
        )
        yield GaugeMetricFamily(
            "loopai_worker_deliveries", "Deliveries that are being handled.", self._running()
        )
        yield GaugeMetricFamily(
            "loopai_worker_deliveries_waiting",
            "Deliveries in hand that wait for a slot.",
            self._waiting(),
        )


class CellCollector(Collector):
    """What the cells of a worker do. Reads plain numbers, so that a call pays nothing for them."""

    def __init__(self, cells: "pool.CellPool") -> None:
        self._cells = cells

    def collect(self) -> Iterable[Metric]:
        """Called by the server's thread."""
        counted = self._cells.statistics
        for name, meaning, count in (
            ("cells_started", "Cells started, blank ones included.", counted.cells_started),
            ("cell_blanks_used", "Cells that were ready when wanted.", counted.blanks_used),
            ("cell_executors_started", "Executors started.", counted.executors_started),
            ("cell_frames", "Frames of inputs given to executors.", counted.frames),
            ("cell_hits", "Batches whose program was in a cell.", counted.hits),
            ("cell_misses", "Batches whose program got a cell first.", counted.misses),
            ("cell_evictions", "Cells closed to make room.", counted.evictions),
        ):
            yield CounterMetricFamily(f"loopai_{name}", meaning, count)
        yield _by("loopai_cell_kills", "Executors ended.", "cause", _CAUSES, counted.kills)
        yield _by("loopai_cell_outcomes", "Calls ended.", "kind", _KINDS, counted.outcomes)
        yield GaugeMetricFamily("loopai_cells", "Cells that hold a program.", self._cells.cells)
        yield GaugeMetricFamily(
            "loopai_cell_batches_waiting", "Batches that wait for a cell.", counted.waiting
        )
        yield GaugeMetricFamily(
            "loopai_cell_memory_bytes",
            "Memory of all processes in cells, as last weighed.",
            self._cells.weight_bytes,
        )


class ShadowCounts:
    """Executions that were to be run on a shadow version."""

    def __init__(self) -> None:
        self.recorded = 0
        self.dropped = 0


class ShadowCollector(Collector):
    """What became of the work of shadow versions."""

    def __init__(self, counts: ShadowCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Called by the server's thread."""
        found = {"recorded": self._counts.recorded, "dropped": self._counts.dropped}
        yield _by(
            "loopai_shadow_executions",
            "Executions run beside their answers, or not.",
            "result",
            tuple(found),
            found,
        )


class WebhookCounts:
    """Posts to webhooks, and events that found no room in a webhook's queue."""

    def __init__(self) -> None:
        self.attempts = {"succeeded": 0, "retrying": 0, "failed": 0}
        self.dropped = 0

    def drop(self) -> None:
        self.dropped += 1


class WebhookCollector(Collector):
    """What became of what webhooks were to be told."""

    def __init__(self, counts: WebhookCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Called by the server's thread."""
        attempts = self._counts.attempts
        yield _by(
            "loopai_webhook_attempts", "Posts to webhooks.", "outcome", tuple(attempts), attempts
        )
        yield CounterMetricFamily(
            "loopai_webhook_dropped",
            "Events that found no room in the queue of their webhook.",
            self._counts.dropped,
        )


def _by(
    name: str, meaning: str, label: str, known: Iterable[str], counts: Mapping[str, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, meaning, labels=(label,))
    # Zeros too: a rate needs a value from before the first time.
    for key in known:
        family.add_metric((key,), counts.get(key, 0))
    return family
