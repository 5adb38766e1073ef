"""Executions and operations after they were accepted: look, wait, listen, cancel."""

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from loopai_client import errors, models, requests, sse
from loopai_client.blocking.transport import Transport
from loopai_client.requests import path, request

ROUND_S: Final = 20.0
"""One request waits so long: shorter than the patience of most proxies."""
PROGRESS_S: Final = 0.5
"""How often an operation is looked at for somebody who wants to hear of its progress."""
SILENCE_S: Final = 45.0
"""The server sends something every 15 seconds: after three times that it is gone."""


class Executions:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, id: str, *, wait_s: float | None = None) -> models.Execution:  # noqa: A002
        """How the execution stands; with *wait_s* once it has ended, or after so long."""
        asked = request(
            "GET", path("executions", id), query={"wait": wait_s}, least_s=wait_s or 0.0
        )
        return self._transport.send(asked, models.Execution)

    def wait(self, id: str, timeout_s: float = 300.0) -> models.Execution:  # noqa: A002
        """The execution once it has ended. DeadlineExceeded after *timeout_s*."""
        ends = time.monotonic() + timeout_s
        while (left := ends - time.monotonic()) > 0:
            found = self.get(id, wait_s=round(min(ROUND_S, left), 3))
            if found.ended:
                return found
        raise errors.DeadlineExceeded(f"execution {id} has not ended within {timeout_s:g} s")

    def cancel(self, id: str, *, wait_s: float | None = None) -> models.Execution:  # noqa: A002
        """Ask for its end. ConflictError with EXECUTION_ENDED where there is nothing to end."""
        asked = request(
            "DELETE", path("executions", id), query={"wait": wait_s}, least_s=wait_s or 0.0
        )
        return self._transport.send(asked, models.Execution)

    def events(self, id: str) -> Iterator[models.Event]:  # noqa: A002
        """`queued`, then `ended` with the execution, as Server-Sent Events."""
        return _listen(self._transport, path("executions", id, "events"))


class Operations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, id: str, *, wait_s: float | None = None) -> models.Operation:  # noqa: A002
        """How the operation stands; with *wait_s* once it has ended, or after so long."""
        asked = request(
            "GET", path("operations", id), query={"wait": wait_s}, least_s=wait_s or 0.0
        )
        return self._transport.send(asked, models.Operation)

    def wait(
        self,
        id: str,  # noqa: A002
        timeout_s: float = 300.0,
        *,
        on_progress: models.OnProgress | None = None,
    ) -> models.Operation:
        """The operation once it has ended. DeadlineExceeded after *timeout_s*."""
        ends = time.monotonic() + timeout_s
        told = None
        while (left := ends - time.monotonic()) > 0:
            longest_s = ROUND_S if on_progress is None else PROGRESS_S
            found = self.get(id, wait_s=round(min(longest_s, left), 3))
            if on_progress is not None and told != (found.status, found.stage):
                told = (found.status, found.stage)
                on_progress(found)
            if found.ended:
                return found
        raise errors.DeadlineExceeded(f"operation {id} has not ended within {timeout_s:g} s")

    def events(self, id: str) -> Iterator[models.Event]:  # noqa: A002
        """`progress` at each change, then `ended` with the operation, as Server-Sent Events."""
        return _listen(self._transport, path("operations", id, "events"))


def _listen(transport: Transport, target: str) -> Iterator[models.Event]:
    """Events until `ended`; a connection that breaks is taken up where it broke."""
    parser, attempts = sse.Parser(), transport.attempts()
    while True:
        headers = {"Accept": "text/event-stream"}
        if parser.last_id:
            headers["Last-Event-ID"] = parser.last_id
        asked = requests.Request(method="GET", path=target, headers=headers)
        try:
            with transport.opened(asked, SILENCE_S) as response:
                if response.status_code == HTTPStatus.NO_CONTENT:
                    return
                for line in response.iter_lines():
                    event = parser.feed(line)
                    if event is None:
                        continue
                    attempts = transport.attempts()
                    yield event
                    if event.kind == "ended":
                        return
            raise errors.ConnectionFailed(f"{target}: the events broke off")
        except errors.LoopaiError as error:
            parser.broken()
            pause_s = attempts.pause_s(error)
        time.sleep(pause_s)
