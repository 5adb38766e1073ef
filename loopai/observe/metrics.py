"""The figures of those who send executions, as Prometheus reads them."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.messages import ExecutionStatus
from streams.publisher import GroupCommit

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class IngressMetrics:
    """Labels hold routes, never ids or names of callers: their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._by_request: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "loopai_http_requests_total",
            "HTTP requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "loopai_http_request_seconds",
            "Time from a request's headers to its answer.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.dispatch = DispatchMetrics(self.registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request and its time."""
        key = (route, method, status)
        found = self._by_request.get(key)
        if found is None:
            # Looked up by their labels each time, they took 3 µs of every request.
            count = self.requests.labels(route, method, str(status))
            found = self._by_request[key] = (count, self.request_seconds.labels(route))
        found[0].inc()
        found[1].observe(seconds)


class DispatchMetrics:
    """Of a process that sends executions and hands out their results: an ingress or a gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.executions = Counter(
            "loopai_executions_total",
            "Executions answered by this process.",
            ["status"],
            registry=registry,
        )
        self.waiting = Gauge(
            "loopai_executions_waiting",
            "Executions that a caller of this process waits for.",
            registry=registry,
        )
        self._batches = Gauge(
            "loopai_publish_batches",
            "Messages published to EXECUTE; divide the items by it for the mean batch.",
            registry=registry,
        )
        self._items = Gauge(
            "loopai_publish_items", "Executions published to EXECUTE.", registry=registry
        )

    def execution_counts(self) -> dict[ExecutionStatus, Counter]:
        """The counters of `executions` by status: looking one up costs more than counting."""
        return {status: self.executions.labels(status) for status in get_args(ExecutionStatus)}

    def batches_of(self, commit: GroupCommit) -> None:
        """Read the counts of *commit* when scraped, so that publishing pays nothing for them."""
        self._batches.set_function(lambda: commit.batches)
        self._items.set_function(lambda: commit.items)
