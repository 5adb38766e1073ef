"""`loopai top` shows queues and workers, look by look."""

import signal

import msgspec
import pytest

from tests.system import System
from tests.wait import until
from workers import executor


@pytest.fixture
def at(system: System):
    """The environment that leads to a running system."""
    return {"LOOPAI_URL": str(system.http.base_url), "COLUMNS": "120"}


@pytest.fixture
async def queued(system: System):
    """One execution that nobody takes."""
    await system.create()
    await system.stop_pool(executor)
    (await system.http.post("/api/v1/tasks/upper/execute?wait=0", json={"input": "a"})).json()

    async def is_shown():
        held = (await system.http.get("/api/v1/queues")).json()["queues"]
        return [each["queued"] for each in held] == [1]

    await until(is_shown)


@pytest.mark.usefixtures("queued")
async def test_each_look_is_a_line_of_json(loopai, at):
    command = await loopai("top", "--json", "--every", "0.1", "--count", "3", **at)
    assert await command.ended() == 0, command.lines
    looks = [msgspec.json.decode(line) for line in command.stdout.splitlines()]
    assert len(looks) == 3
    assert all(look["health"]["workers"]["recorder"] == 1 for look in looks)
    assert all(look["queues"]["queues"][0]["task"] == "upper" for look in looks)


@pytest.mark.usefixtures("queued")
async def test_a_look_has_queues_and_workers(loopai, at):
    command = await loopai("top", "--count", "1", **at)
    assert await command.ended() == 0, command.lines
    assert "1 recorder" in command.stdout
    assert "0 executions a second, 0 messages running, 1 queued" in command.stdout
    assert "upper" in command.stdout


async def test_ctrl_c_is_how_it_ends(loopai, at, system: System):
    del system
    command = await loopai("top", "--json", "--every", "0.1", **at)
    await command.out('"health"')
    command.signal(signal.SIGINT)
    assert await command.ended() == 0
    assert not command.lines[1:]


async def test_without_an_api_it_says_so(loopai):
    command = await loopai("top", LOOPAI_URL="http://127.0.0.1:1")
    assert await command.ended() == 1
    assert "start one with `loopai dev`" in command.lines[-1]
