"""arq on a Redis without persistence. Worker and caller poll, as often as it is fastest."""

import contextlib
from collections.abc import AsyncIterator

import uvloop
from arq import connections, worker

from bench.peers import web

AT_ONCE = 256
POLL_S = 0.005
TIMEOUT_S = 10.0


def work(broker: str) -> None:
    uvloop.run(_work(broker))


async def _work(url: str) -> None:
    settings = connections.RedisSettings.from_dsn(url)
    await worker.Worker(
        [worker.func(run, name="run")],
        redis_settings=settings,
        max_jobs=AT_ONCE,
        poll_delay=POLL_S,
        log_results=False,
    ).async_run()


async def run(_: object, value: dict[str, int]) -> int:
    return value["a"] + 1


@contextlib.asynccontextmanager
async def caller(broker: str) -> AsyncIterator[web.Call]:
    redis = await connections.create_pool(connections.RedisSettings.from_dsn(broker))

    async def call(value: dict[str, int]) -> int:
        job = await redis.enqueue_job("run", value)
        if job is None:
            raise RuntimeError("a job of this id exists")
        output: int = await job.result(TIMEOUT_S, poll_delay=POLL_S)
        return output

    yield call
    await redis.aclose()
