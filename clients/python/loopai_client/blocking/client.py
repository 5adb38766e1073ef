"""The client: one object, one pool of connections."""

from typing import Any, Self

from loopai_client import models, requests
from loopai_client.blocking.batches import Batch
from loopai_client.blocking.catalog import Artifacts, Rollouts, Tasks
from loopai_client.blocking.executions import Executions, Operations
from loopai_client.blocking.subscriptions import Keys, Webhooks
from loopai_client.blocking.transport import Transport
from loopai_client.settings import settings

TIMEOUT_MS = 30_000
"""What the server takes for `timeout_ms` where none is given."""


class Client:
    """Talks to Loopai over HTTP. Use it in a `with`, or `close` it.

    With *grpc* (`host:port`; `https://host:port` over TLS) `execute`, `generate` and batches go
    over gRPC, and over HTTP where the server has none, or `loopai-client[grpc]` is not installed.

    *url* and *api_key* come from LOOPAI_URL and LOOPAI_API_KEY where they are not given. What fails
    for a moment (429, 502 to 504, no connection) is sent again up to *max_retries* times within
    *deadline_s* seconds in all; with 0 it is sent once, without an idempotency key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        max_retries: int = 5,
        deadline_s: float = 60.0,
        grpc: str | None = None,
    ) -> None:
        self._transport = Transport(settings(url, api_key, max_retries, deadline_s, grpc))
        self.tasks = Tasks(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.rollout = Rollouts(self._transport)
        self.executions = Executions(self._transport)
        self.operations = Operations(self._transport)
        self.batch = Batch(self._transport)
        self.keys = Keys(self._transport)
        self.webhooks = Webhooks(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def execute(
        self,
        task: str,
        input: Any,  # noqa: A002 (the API's word)
        *,
        version: int | None = None,
        timeout_ms: int | None = None,
        wait_s: float | None = None,
        routing_key: str | None = None,
        force_validation: bool | None = None,
        idempotency_key: str | None = None,
    ) -> models.Execution:
        """Run *task* on *input* and wait for how it ends, which may be an error of the program.

        With *wait_s* wait so long at most; what has not ended by then is `queued`. ApiError with
        DEADLINE_PASSED after *timeout_ms*.
        """
        body = requests.given(
            version=version,
            timeout_ms=timeout_ms,
            routing_key=routing_key,
            force_validation=force_validation,
        )
        asked = requests.request(
            "POST",
            requests.path("tasks", task, "execute"),
            query={"wait": wait_s},
            body={"input": input, **body},
            idempotency_key=idempotency_key,
            least_s=(timeout_ms or TIMEOUT_MS) / 1000 if wait_s is None else wait_s,
        )
        return self._transport.send(asked, models.Execution)

    def generate(
        self,
        task: str,
        *,
        engine: str | None = None,
        seed: int | None = None,
        activate: bool | None = None,
        timeout_s: float = 300.0,
        on_progress: models.OnProgress | None = None,
    ) -> models.Operation:
        """Make a program from the task's examples and wait for it; *timeout_s* 0: do not wait.

        *on_progress* is called with the operation whenever it has come further. DeadlineExceeded.
        """
        body = requests.given(engine=engine, seed=seed, activate=activate)
        asked = requests.request("POST", requests.path("tasks", task, "generate"), body=body)
        started = self._transport.send(asked, models.Operation)
        if timeout_s <= 0:
            return started
        return self.operations.wait(started.id, timeout_s, on_progress=on_progress)

    def queues(self, task: str | None = None) -> list[models.Queue]:
        """What is queued and running, of *task* or of all."""
        asked = requests.request("GET", requests.path("queues"), query={"task": task})
        return (self._transport.send(asked, models.Queues)).queues

    def sync(self) -> list[models.Site]:
        """How far the store of each site follows the registry."""
        asked = requests.request("GET", requests.path("sync"))
        return (self._transport.send(asked, models.Sites)).sites

    def health(self) -> models.Health:
        """What works. It needs no key."""
        return self._transport.send(requests.request("GET", "/health"), models.Health)
