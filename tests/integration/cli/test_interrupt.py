"""Ctrl-C while something is waited for: 130 at once, and how to go on."""

import signal

import pytest

from tests.integration.cli.conftest import Start
from tests.system import System
from tests.wait import until
from workers import executor


@pytest.fixture
async def queued(system: System) -> str:
    """Id of an execution that nobody takes."""
    await system.create()
    await system.stop_pool(executor)
    answer = await system.http.post("/api/v1/tasks/upper/execute?wait=0", json={"input": "a"})
    return str(answer.json()["id"])


@pytest.mark.parametrize("verb", ["wait", "follow"])
async def test_an_execution_that_is_waited_for_goes_on(
    loopai: Start, at: dict[str, str], system: System, queued: str, verb: str
) -> None:
    """The line names its id; `wait` in a pipe has said nothing before."""
    command = await loopai("execution", verb, queued, **at)
    await until(lambda: system.services.hearing.waiting > 0, within_s=60)
    said = [await command.out("queued")] if verb == "follow" else []
    command.signal(signal.SIGINT)
    assert await command.ended() == 130
    assert said == ([f"queued  {queued}"] if verb == "follow" else [])
    assert command.lines[len(said) :] == [
        f"it goes on; loopai execution {verb} {queued} "
        + ("waits again" if verb == "wait" else "follows it again")
    ]
    assert command.stdout == ""


async def test_a_run_that_is_waited_for_goes_on(
    loopai: Start, at: dict[str, str], system: System, queued: str
) -> None:
    """With its idempotency key the same command waits for it again, and so it says."""
    del queued
    command = await loopai("run", "upper", '"b"', "--idempotency-key", "k", **at)

    async def is_queued() -> bool:
        found = (await system.http.get("/api/v1/queues")).json()["queues"]
        return [each["queued"] for each in found] == [2]

    await until(is_queued, within_s=60)
    command.signal(signal.SIGINT)
    assert await command.ended() == 130
    assert command.lines[-1].endswith("the same command waits for it again")


async def test_a_generation_that_is_waited_for_goes_on(
    loopai: Start, at: dict[str, str], system: System
) -> None:
    """The line names the operation, which can be waited for."""
    await system.create(examples=[{"input": text, "output": text} for text in "ab"])
    await system.stop_pools()
    command = await loopai("task", "generate", "upper", **at)

    async def is_asked() -> bool:
        metrics = system.services.metrics.registry
        labels = {"route": "generate.get", "method": "GET", "status": "200"}
        return bool(metrics.get_sample_value("loopai_http_requests_total", labels))

    await until(is_asked, within_s=60)
    command.signal(signal.SIGINT)
    assert await command.ended() == 130
    operation = command.lines[-1].partition("loopai operation wait ")[2].split()[0]
    answer = await system.http.get(f"/api/v1/operations/{operation}")
    assert answer.json()["status"] == "queued"
