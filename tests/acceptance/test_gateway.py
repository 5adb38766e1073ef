"""Gateways as processes, ended by SIGTERM under load: every call is answered, once."""

import asyncio
import contextlib
import functools
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from tests.acceptance.conftest import Product
from tests.wait import until

CALLS = 1_000
AT_ONCE = 64
PARTS = 3
"""Of the calls; in each a gateway comes and goes."""
SUBJECT = "loopai.v1.call.default.upper"


@contextlib.asynccontextmanager
async def gateway(product: Product, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """One more gateway, from when others see it; ended by SIGTERM, with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "gateway",
        env={**os.environ, "LOOPAI_NATS_URL": product.stack.nats_url},
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await until(lambda: process.pid in {each.pid for each in product.alive("gateway")}, 30)
        yield process
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0


def _has_more(heard: dict[str, list[Msg]], number: int) -> bool:
    return len(heard) > number


@pytest.mark.timeout(180)
async def test_no_call_is_lost_while_gateways_are_replaced(
    product: Product, tmp_path: Path
) -> None:
    """1,000 calls by 64 callers while processes come and go; the records match the answers."""
    await product.create()
    inbox = product.bus.client.new_inbox()
    heard: dict[str, list[Msg]] = {}

    async def hear(message: Msg) -> None:
        heard.setdefault(message.subject, []).append(message)

    await product.bus.client.subscribe(f"{inbox}.*", cb=hear)
    gate = asyncio.Semaphore(AT_ONCE)
    started = 0

    async def one(number: int) -> None:
        reply = f"{inbox}.{number}"
        async with gate:
            await until(lambda: started > number * PARTS // CALLS, 60)
            payload = b'{"input": "n%d"}' % number
            await product.bus.client.publish(SUBJECT, payload, reply=reply)
            await until(lambda: reply in heard, 45)

    async def replace() -> None:
        nonlocal started
        for part in range(PARTS):
            async with gateway(product, tmp_path):
                started += 1
                # It ends in the middle of its part of the calls.
                enough = part * CALLS // PARTS + 2 * AT_ONCE
                await until(functools.partial(_has_more, heard, enough), 60)

    async with asyncio.TaskGroup() as group:
        group.create_task(replace())
        for number in range(CALLS):
            group.create_task(one(number))

    assert len(heard) == CALLS
    assert {len(answers) for answers in heard.values()} == {1}
    answers = {s: msgspec.json.decode(a.data) for s, (a,) in heard.items()}
    assert Counter(each["status"] for each in answers.values()) == {"success": CALLS}
    assert {s: f"N{s.rpartition('.')[2]}" for s in answers} == {
        s: each["output"] for s, each in answers.items()
    }
    recorded = [record.id for record in await product.records()]
    assert len(recorded) == len(set(recorded)) == CALLS
    assert set(recorded) == {each["id"] for each in answers.values()}
