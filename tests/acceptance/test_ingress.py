"""Several ingress processes on one port: one of them dies, and only its own callers notice."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import httpx
import pytest

from loopai.embedded.stack import Options, Stack
from streams import codec, connection, topology
from tests import callers
from tests.acceptance.conftest import Product, run
from tests.wait import until

CALLERS = 24
"""Enough that two processes both have some: all on one is a chance of 1 in 8 million."""

EXECUTE = "/api/v1/tasks/upper/execute"


async def _over(pid: int) -> None:
    """Return when the process *pid* has ended and the kernel has closed what it had open."""
    over = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


def _port(product: Product) -> int:
    return httpx.URL(product.stack.url).port or 0


@pytest.mark.parametrize("ingresses", [2])
async def test_a_killed_ingress_loses_only_its_own_connections(product: Product) -> None:
    """kill -9 of one of two under load: the other's callers and all new ones are answered."""
    await product.create()
    url = product.stack.url
    asked = 0
    broken: list[int] = []
    wrong: list[str] = []
    stop = asyncio.Event()

    async def ask(http: httpx.AsyncClient) -> None:
        nonlocal asked
        answer = await http.post(EXECUTE, json={"input": "a"})
        asked += 1
        if answer.status_code != 200 or answer.json()["output"] != "A":
            wrong.append(answer.text)

    async def keep_asking(http: httpx.AsyncClient, pid: int) -> None:
        with contextlib.suppress(httpx.TransportError):
            while not stop.is_set():
                await ask(http)
            return
        broken.append(pid)

    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(callers.caller(url)) for _ in range(CALLERS)]
        killed = opened[0][1]
        assert {pid for _, pid in opened} == callers.listeners(_port(product))
        async with asyncio.TaskGroup() as group:
            for http, pid in opened:
                group.create_task(keep_asking(http, pid))
            await until(lambda: asked > 10 * CALLERS)
            ended = asyncio.create_task(_over(killed))
            os.kill(killed, signal.SIGKILL)
            await ended
            # Whoever comes now is answered: while one is gone, and while its successor starts.
            fresh = 0
            while killed in (now := callers.listeners(_port(product))) or len(now) < 2:
                async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                    await ask(http)
                fresh += 1
            stop.set()
    assert fresh > 0
    assert wrong == []
    # Not all of its callers: one between two requests connects again without a word.
    assert set(broken) == {killed}


@pytest.mark.parametrize("ingresses", [2])
async def test_a_restarted_ingress_takes_its_share_again(product: Product) -> None:
    """It shows itself to /health, and new callers reach it, always with an answer."""
    before = callers.listeners(_port(product))
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    await until(lambda: len({each.pid for each in product.alive("ingress")} - {killed}) == 2)
    (successor,) = callers.listeners(_port(product)) - before
    reached = set()
    async with asyncio.timeout(30):
        while successor not in reached:
            async with callers.caller(product.stack.url) as (http, pid):
                assert (await http.get("/health/ready")).status_code == 200
                reached.add(pid)
    await product.create()
    assert (await product.execute("a")).json()["output"] == "A"


@pytest.mark.parametrize("ingresses", [2])
async def test_what_one_ingress_accepts_another_knows(product: Product) -> None:
    """A task, its version and an execution are there for callers of the other process at once."""
    async with contextlib.AsyncExitStack() as stack:
        held: dict[int, httpx.AsyncClient] = {}
        async with asyncio.timeout(30):
            while len(held) < 2:
                http, pid = await stack.enter_async_context(callers.caller(product.stack.url))
                held.setdefault(pid, http)
        here, there = held.values()
        text = {"type": "string"}
        for number in range(20):
            name = f"task-{number}"
            task = {"name": name, "input_schema": text, "output_schema": text}
            assert (await here.post("/api/v1/tasks", json=task)).status_code == 201
            code = f"def run(input):\n    return input + '{number}'\n"
            program = {"language": "python", "code": code, "activate": True}
            answer = await there.post(f"/api/v1/tasks/{name}/artifacts", json=program)
            assert answer.status_code == 201, answer.text
            answer = await here.post(f"/api/v1/tasks/{name}/execute", json={"input": "a"})
            assert answer.json()["output"] == f"a{number}", answer.text
            found = await there.get(f"/api/v1/executions/{answer.json()['id']}")
            assert found.json()["output"] == f"a{number}", found.text


@pytest.mark.parametrize("ingresses", [2])
async def test_a_shared_port_is_not_for_one_started_by_mistake(product: Product) -> None:
    """Without LOOPAI_HTTP_SHARED it is refused, and takes no caller away."""
    address = f"127.0.0.1:{_port(product)}"
    status, said = await run(
        "loopai.ingress", LOOPAI_HTTP=address, LOOPAI_NATS_URL=product.stack.nats_url
    )
    assert status == 1
    assert f"cannot listen on {address} (Address already in use)" in said
    assert "LOOPAI_HTTP" in said
    assert len(callers.listeners(_port(product))) == 2


async def test_a_port_that_one_has_for_itself_is_not_shared(product: Product) -> None:
    """Being told to share is no help where the other one is not."""
    address = f"127.0.0.1:{_port(product)}"
    status, said = await run(
        "loopai.ingress",
        LOOPAI_HTTP=address,
        LOOPAI_HTTP_SHARED="true",
        LOOPAI_NATS_URL=product.stack.nats_url,
    )
    assert status == 1
    assert f"cannot listen on {address} (Address already in use)" in said


async def test_ready_counts_nobody_who_died_with_an_earlier_stack(tmp_path: Path) -> None:
    """Killed and started again within the time that presences last: only the living count."""
    options = Options(http="127.0.0.1:0", data_dir=tmp_path, nats_port=None, ingress=2)
    first = Stack(options, lambda *_: None)
    async with first:
        first.kill()
    async with Stack(options, lambda *_: None) as second:
        bus = await connection.connect(second.nats_url, name="test")
        store = await bus.jetstream.key_value(topology.WORKERS.name)
        raw = [(await store.get(key)).value or b"" for key in await store.keys()]
        await bus.close()
    shown = [codec.WORKER.decode(each) for each in raw]
    assert sum(each.pool == "ingress" for each in shown) == 2
    assert len(shown) == 8
