"""taskiq over JetStream pulls, with results in a JetStream bucket; the broker syncs by its default.

The object store for results that taskiq-nats brings leaves a consumer on the broker for each look
at a result, and fails after a few hundred requests. A bucket that is watched takes its place.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import nats
import taskiq
import taskiq_nats
import uvloop
from nats.js import api as jetstream
from nats.js import kv
from taskiq import api, serializers

from bench.peers import web

AT_ONCE = 256
CHECK_S = 0.001
TIMEOUT_S = 10.0
RESULTS_TTL_S = 3600


def work(broker: str) -> None:
    uvloop.run(_work(broker))


async def _work(url: str) -> None:
    broker = _broker(url)
    await broker.startup()
    await api.run_receiver_task(broker, max_async_tasks=AT_ONCE, validate_params=False)


async def run(value: dict[str, int]) -> int:
    return value["a"] + 1


@contextlib.asynccontextmanager
async def caller(broker: str) -> AsyncIterator[web.Call]:
    connected = _broker(broker)
    await connected.startup()
    task = connected.find_task("run")
    if task is None:
        raise RuntimeError("the task was registered a moment ago")

    async def call(value: dict[str, int]) -> int:
        kicked = await task.kiq(value)
        result = await kicked.wait_result(check_interval=CHECK_S, timeout=TIMEOUT_S)
        output: int = result.return_value
        return output

    async with connected.result_backend.watching():  # type: ignore[attr-defined]  # our Results
        yield call
    await connected.shutdown()


class Results(taskiq.AsyncResultBackend[int]):
    """A bucket, and what has arrived in it since it is watched."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._serializer = serializers.JSONSerializer()
        self._arrived: dict[str, bytes] = {}
        self._bucket: kv.KeyValue

    async def startup(self) -> None:
        self._connection = await nats.connect(self._url)
        config = jetstream.KeyValueConfig(bucket="results", ttl=RESULTS_TTL_S)
        self._bucket = await self._connection.jetstream().create_key_value(config)

    async def shutdown(self) -> None:
        await self._connection.close()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        watcher = await self._bucket.watchall(ignore_deletes=True)

        async def watch() -> None:
            async for entry in watcher:
                if entry is not None:
                    self._arrived[entry.key] = entry.value

        task = asyncio.create_task(watch())
        yield
        task.cancel()

    async def set_result(self, task_id: str, result: taskiq.TaskiqResult[int]) -> None:
        await self._bucket.put(task_id, self._serializer.dumpb(result.model_dump(mode="json")))

    async def is_result_ready(self, task_id: str) -> bool:
        return task_id in self._arrived

    async def get_result(
        self,
        task_id: str,
        with_logs: bool = False,  # noqa: ARG002  # of the interface; there are no logs
    ) -> taskiq.TaskiqResult[int]:
        found = self._serializer.loadb(self._arrived.pop(task_id))
        return taskiq.TaskiqResult[int].model_validate(found)


def _broker(url: str) -> taskiq.AsyncBroker:
    # One message a pull is its default. It waits for full pulls, however long that takes.
    broker = taskiq_nats.PullBasedJetStreamBroker(url).with_result_backend(Results(url))
    broker.register_task(run, task_name="run")
    return broker
