"""FastStream over core NATS request/reply: nothing is stored, a restart loses what is running."""

import contextlib
from collections.abc import AsyncIterator

import faststream
import uvloop
from faststream import nats

from bench.peers import web

SUBJECT = "run"
TIMEOUT_S = 10.0


def work(broker: str) -> None:
    connected = _broker(broker)

    @connected.subscriber(SUBJECT)
    async def run(value: dict[str, int]) -> int:
        return value["a"] + 1

    uvloop.run(faststream.FastStream(connected).run())


@contextlib.asynccontextmanager
async def caller(broker: str) -> AsyncIterator[web.Call]:
    async with _broker(broker) as connected:

        async def call(value: dict[str, int]) -> int:
            answer = await connected.request(value, SUBJECT, timeout=TIMEOUT_S)
            output: int = await answer.decode()
            return output

        yield call


def _broker(url: str) -> nats.NatsBroker:
    # Without its logs and its validation by pydantic, both on by default, it is faster.
    return nats.NatsBroker(url, logger=None, apply_types=False)
