"""One execution from HTTP through JetStream and a cell to the audit and back."""

import asyncio

from streams import replay
from tests.system import System


async def _audit(system: System) -> list[str]:
    return [r.id async for r in replay.records(system.bus, tenant="default")]


async def test_execution_is_answered_and_recorded(system: System) -> None:
    """A lone request gets its program's output, and the audit holds that very execution."""
    task = await system.create()

    answer = (await system.execute("hello")).raise_for_status().json()

    assert answer["output"] == "HELLO"
    assert answer["status"] == "success"
    assert answer["task_id"] == task["id"]
    assert answer["version"] == 1
    assert answer["id"] == answer["execution_id"]
    assert await _audit(system) == [answer["id"]]


async def test_many_at_once_each_get_their_own_answer(system: System) -> None:
    """Requests that travel in one message are not mixed up, and each is recorded once."""
    await system.create()

    answers = await asyncio.gather(*(system.execute(f"text {n}") for n in range(300)))

    assert [a.json()["output"] for a in answers] == [f"TEXT {n}" for n in range(300)]
    recorded = await _audit(system)
    assert len(recorded) == 300
    assert set(recorded) == {a.json()["id"] for a in answers}
