"""Celery on a Redis without persistence, for its tasks and for its results.

Its own ways to await a result block a thread or poll. Its backend publishes each result as well,
so one subscription to all of them is the fastest way to await one in an event loop.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import celery
from redis import asyncio as redis

from bench.peers import web

RESULTS = "celery-task-meta-"
TIMEOUT_S = 10.0


def work(broker: str) -> None:
    # One process: its default pool would add a second one and a pipe between them.
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    _application(broker).worker_main(["worker", "--pool=solo", "--loglevel=ERROR", *quiet])


@contextlib.asynccontextmanager
async def caller(broker: str) -> AsyncIterator[web.Call]:
    application = _application(broker)
    waiting: dict[str, asyncio.Future[int]] = {}
    async with redis.Redis.from_url(broker) as connected, connected.pubsub() as results:
        await results.psubscribe(f"{RESULTS}*")

        async def receive() -> None:
            async for message in results.listen():
                if message["type"] == "pmessage":
                    result = json.loads(message["data"])
                    future = waiting.get(result["task_id"])
                    if future is not None and not future.done():
                        future.set_result(result["result"])

        async def call(value: dict[str, int]) -> int:
            task_id = celery.uuid()
            future = waiting[task_id] = asyncio.get_running_loop().create_future()
            try:
                # One short command to Redis; through a thread it is slower, and no fairer.
                application.tasks["run"].apply_async((value,), task_id=task_id)
                return await asyncio.wait_for(future, TIMEOUT_S)
            finally:
                del waiting[task_id]

        receiving = asyncio.create_task(receive())
        yield call
        receiving.cancel()


def _application(url: str) -> celery.Celery:
    application = celery.Celery("bench", broker=url, backend=url)
    application.conf.update(worker_prefetch_multiplier=0, broker_connection_retry_on_startup=True)

    @application.task(name="run")  # type: ignore[untyped-decorator]  # celery has no types
    def run(value: dict[str, int]) -> int:
        return value["a"] + 1

    return application
