"""`loopai dev` as its users meet it: a process, its lines, signals."""

import asyncio
import contextlib
import os
import signal
import socket

import httpx
import msgspec
import pytest

from loopai.embedded import broker
from streams import connection
from tests import callers
from tests.wait import until

FREE = ("--http", "127.0.0.1:0", "--nats-port", "0")

SLOW = """
from datetime import datetime, timedelta

def run(input):
    end = datetime.now() + timedelta(seconds=1)
    while datetime.now() < end:
        pass
    return input
"""


async def ready(command):
    """The URL of the API, once everything is ready."""
    raw = await command.out('"ready"')
    return msgspec.json.decode(raw)["url"]


@pytest.fixture
async def dev(loopai):
    """Starts `loopai dev` on free ports."""

    async def start(*arguments, **environment):
        return await loopai("dev", "--json", *FREE, *arguments, **environment)

    return start


async def test_runs_everything_until_sigterm(dev, has_ended):
    """Ready means healthy with every pool; SIGTERM ends all of it with exit code 0."""
    command = await dev("--workers", "2", "--ingress", "2")
    url = await ready(command)
    async with httpx.AsyncClient() as client:
        health = (await client.get(f"{url}/health")).json()
    assert health["status"] == "healthy"
    wanted = {
        "ingress": 2,
        "executor": 2,
        "generator": 1,
        "recorder": 1,
        "gateway": 1,
        "syncer": 1,
        "notifier": 1,
    }
    assert health["workers"] == wanted
    children = command.children()
    assert len(children) == 10
    command.signal(signal.SIGTERM)
    assert await command.ended() == 0
    for pid in children.values():
        await has_ended(pid)


async def test_every_ingress_drains(dev):
    """SIGTERM while each of two has a request under way: both are answered."""
    command = await dev("--ingress", "2", "--workers", "2")
    stated = msgspec.json.decode(await command.out('"ready"'))
    async with contextlib.AsyncExitStack() as stack:
        held = {}
        async with asyncio.timeout(60):
            while len(held) < 2:
                http, pid = await stack.enter_async_context(callers.caller(stated["url"]))
                held.setdefault(pid, http)
        first, second = held.values()
        await first.post("/api/v1/tasks", json={"name": "slow", "input_schema": {}})
        program = {"language": "python", "code": SLOW, "activate": True}
        answer = await first.post("/api/v1/tasks/slow/artifacts", json=program)
        assert answer.status_code == 201, answer.text
        bus = await connection.connect(stated["nats_url"], name="test")
        stack.push_async_callback(bus.close)
        path = "/api/v1/tasks/slow/execute"
        asking = [
            asyncio.create_task(http.post(path, json={"input": number}))
            for number, http in enumerate((first, second))
        ]

        async def accepted():
            return (await bus.jetstream.stream_info("EXECUTE")).state.messages == 2

        await until(accepted)
        command.signal(signal.SIGTERM)
        answers = await asyncio.gather(*asking)
    assert [answer.json()["output"] for answer in answers] == [0, 1]
    assert await command.ended() == 0


async def test_workers_of_one_machine_do_not_fight_for_a_metrics_port(dev):
    """A variable that is set for a deployment must not keep `loopai dev` from starting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = await dev(LOOPAI_METRICS=f"127.0.0.1:{taken.getsockname()[1]}")
        await ready(command)
    command.signal(signal.SIGTERM)
    assert await command.ended() == 0
    assert not [line for line in command.lines if "metrics" in line]


async def test_ctrl_c_is_exit_code_130(dev):
    """Ctrl-C ends it as cleanly, with the code that shells expect."""
    command = await dev()
    await ready(command)
    command.signal(signal.SIGINT)
    assert await command.ended() == 130
    assert not [line for line in command.lines if "Traceback" in line]


async def test_a_killed_worker_and_a_killed_broker_come_back(dev):
    """Each is said, started again, and work goes on under the same URL."""
    command = await dev()
    url = await ready(command)
    os.kill(command.children()["executor"], signal.SIGKILL)
    await command.line("executor-1 ended (killed by SIGKILL); it starts again in 0.5 s")
    await command.line("executor-1 | ")
    os.kill(command.children()["nats-server"], signal.SIGKILL)
    await command.line("broker ended (killed by SIGKILL); it starts again in 0.5 s")
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=60) as client:
        while (await client.get(f"{url}/health/ready")).status_code != 200:
            pass  # The answer itself waits for the broker.
    command.signal(signal.SIGTERM)
    assert await command.ended() == 0


async def test_nothing_outlives_a_killed_dev(dev, has_ended):
    """SIGKILL of the parent takes the children with it."""
    command = await dev()
    await ready(command)
    children = command.children()
    command.signal(signal.SIGKILL)
    await command.ended()
    for pid in children.values():
        await has_ended(pid)


async def test_a_second_dev_on_the_same_folder_is_refused(dev, loopai):
    """The data folder belongs to one at a time, and is free again afterwards."""
    first = await dev()
    await ready(first)
    second = await dev()
    assert await second.ended() == 1
    assert second.lines == [
        "error: another loopai uses .loopai already; stop it or choose another --data-dir"
    ]
    first.signal(signal.SIGTERM)
    await first.ended()
    third = await dev()
    await ready(third)


async def test_taken_ports_are_said_before_anything_starts(loopai, tmp_path):
    """One line with the port and the option, and no data folder made."""
    # Whoever has it would share it; nobody may share it with him unasked.
    with socket.create_server((broker.HOST, 0), reuse_port=True) as taken:
        port = str(taken.getsockname()[1])
        for arguments, message in (
            (("--http", f"127.0.0.1:{port}", "--nats-port", "0"), "--http"),
            (("--http", f"127.0.0.1:{port}", "--nats-port", "0", "--ingress", "2"), "--http"),
            (("--http", "127.0.0.1:0", "--nats-port", port), "--nats-port"),
        ):
            command = await loopai("dev", *arguments)
            assert await command.ended() == 1
            assert len(command.lines) == 1
            assert f"port {port} is taken" in command.lines[0]
            assert message in command.lines[0]
    assert not (tmp_path / ".loopai").exists()


async def test_without_a_sandbox_it_does_not_start(dev):
    """What a worker says it lacks ends everything, with a line and exit code 1."""
    command = await dev(PATH="/nonexistent")
    assert await command.ended() == 1
    assert "did not start: " in command.lines[-1]
    assert "bubblewrap" in command.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("--http", "nonsense"), {}, "--http='nonsense': expected HOST:PORT"),
        (("--http", "192.0.2.1:8080"), {"LOOPAI_AUTH": "none"}, "cannot listen on 192.0.2.1:8080"),
        (("--data-dir", "/proc/none"), {}, "data directory /proc/none cannot be written"),
        ((), {"LOOPAI_LOG_LEVEL": "loud"}, "LOOPAI_LOG_LEVEL='loud'"),
    ],
)
async def test_a_bad_option_is_one_line(dev, arguments, environment, message):
    """Exit code 1, and the option by its name."""
    command = await dev(*arguments, **environment)
    assert await command.ended() == 1
    assert len(command.lines) == 1
    assert message in command.lines[0]
