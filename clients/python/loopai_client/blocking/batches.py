"""Many inputs at once: as one list, or as a stream without an end."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from loopai_client import models, requests
from loopai_client.blocking.iteration import Items, windows
from loopai_client.blocking.transport import Transport

WINDOW: Final = 500
WINDOW_MOST: Final = 10_000
"""What the server takes in one batch."""
LEAST_S: Final = 300.0
"""A batch may take longer than a request."""


class Batch:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def run(
        self,
        task: str,
        items: Sequence[Mapping[str, Any] | msgspec.Raw],
        *,
        version: int | None = None,
        timeout_ms: int | None = None,
        max_concurrency: int | None = None,
        stop_on_first_error: bool | None = None,
        idempotency_key: str | None = None,
    ) -> models.BatchResult:
        """Results of all *items*, in their order; at most 10,000 in 16 MiB.

        An item is `{"input": …}`, with `id`, `routing_key` and `force_validation` where wanted.
        """
        body = requests.given(
            task_id=task,
            items=items,
            version=version,
            timeout_ms=timeout_ms,
            max_concurrency=max_concurrency,
            stop_on_first_error=stop_on_first_error,
        )
        asked = requests.request(
            "POST",
            requests.path("batch", "execute"),
            body=body,
            idempotency_key=idempotency_key,
            least_s=LEAST_S,
        )
        return self._transport.send(asked, models.BatchResult)

    def stream(
        self,
        task: str,
        items: Items,
        *,
        version: int | None = None,
        timeout_ms: int | None = None,
        window: int = WINDOW,
    ) -> Iterator[models.ItemResult]:
        """Results of *items*, in their order, however many there are.

        No more than *window* of them are taken and not yet answered. Each window is a request of
        its own, sent again under its key where the connection breaks: nothing is lost or twice. An
        item without an `id` has its number, from 0.
        """
        if not 1 <= window <= WINDOW_MOST:
            raise ValueError(f"window {window}: 1 to {WINDOW_MOST}")
        for part in windows(items, window):
            answer = self.run(task, part, version=version, timeout_ms=timeout_ms)
            yield from answer.results
