"""What readers of a cache's layers found, and how long it took: plain numbers, shown when asked."""

import bisect
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS_S: Final = (
    *(1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4),
    *(1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
"""From memory to an object store that is far away."""


class Reads:
    """Of one layer. A count and a bisection: half a microsecond a read."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.errors = 0
        self.seconds = 0.0
        self.by_bucket = [0] * (len(BUCKETS_S) + 1)

    def hit(self, started: float) -> None:
        """A read that began at *started*, by `time.perf_counter`, found what it looked for."""
        self.hits += 1
        self._took(time.perf_counter() - started)

    def missed(self, started: float, *, error: bool = False) -> None:
        """It did not: there was nothing, or an *error*."""
        if error:
            self.errors += 1
        else:
            self.misses += 1
        self._took(time.perf_counter() - started)

    def _took(self, seconds: float) -> None:
        self.seconds += seconds
        self.by_bucket[bisect.bisect_left(BUCKETS_S, seconds)] += 1


class CacheCollector(Collector):
    """The figures of all *layers*, by their names."""

    def __init__(
        self,
        layers: Mapping[str, Reads],
        held_bytes: Callable[[], int],
        is_breaker_open: Callable[[], bool],
    ) -> None:
        self._layers = layers
        self._held_bytes = held_bytes
        self._is_breaker_open = is_breaker_open

    def collect(self) -> Iterable[Metric]:
        """May be called by another thread."""
        reads = CounterMetricFamily(
            "loopai_cache_reads", "Reads of program texts.", labels=("layer", "result")
        )
        seconds = HistogramMetricFamily(
            "loopai_cache_read_seconds", "Time that they took.", labels=("layer",)
        )
        for layer, found in self._layers.items():
            reads.add_metric((layer, "hit"), found.hits)
            reads.add_metric((layer, "miss"), found.misses)
            reads.add_metric((layer, "error"), found.errors)
            totals = accumulate(list(found.by_bucket))
            bounds = (*(str(bound) for bound in BUCKETS_S), "+Inf")
            seconds.add_metric((layer,), list(zip(bounds, totals, strict=True)), found.seconds)
        yield reads
        yield seconds
        yield GaugeMetricFamily(
            "loopai_cache_bytes", "Memory of the texts in this process.", self._held_bytes()
        )
        yield GaugeMetricFamily(
            "loopai_cache_breaker_open",
            "1: Redis failed and is not asked for a while.",
            self._is_breaker_open(),
        )
