"""What `DELETE /executions/{id}` refuses; what it does is in workers/test_cancellation.py."""

import time
from datetime import UTC, datetime

from streams import codec, ids, subjects
from streams.messages import DeadLetter
from tests.integration.ingress.problems import problem
from tests.system import System


async def test_an_execution_that_has_ended_cannot_be_cancelled(system: System) -> None:
    """A 409 that says how it ended; the record stays."""
    await system.create()
    done = (await system.execute("a")).json()
    document = problem(
        await system.http.delete(f"/api/v1/executions/{done['id']}"), "EXECUTION_ENDED"
    )
    assert document["execution_status"] == "success"
    assert (await system.http.get(f"/api/v1/executions/{done['id']}")).json()["output"] == "A"


async def test_a_dead_execution_cannot_be_cancelled(front: System) -> None:
    """What ended in DEAD has ended."""
    letter = DeadLetter(
        stream="EXECUTE",
        sequence=1,
        subject=subjects.execute("bulk", "default", "upper"),
        reason="max_deliveries",
        detail="gave up",
        deliveries=5,
        execution_ids=(ids.new(),),
        dead_at=datetime.now(UTC),
    )
    subject = subjects.dead("EXECUTE", "default", "upper")
    await front.bus.jetstream.publish(subject, codec.DEAD.encode(letter))
    document = problem(
        await front.http.delete(f"/api/v1/executions/{letter.execution_ids[0]}"), "EXECUTION_ENDED"
    )
    assert document["execution_status"] == "error"


async def test_cancelling_waits_as_long_as_it_is_asked_to(front: System) -> None:
    """Without a worker nothing ends: the answer is a 202, in time."""
    await front.create()
    url = "/api/v1/tasks/upper/execute?wait=0"
    queued = (await front.http.post(url, json={"input": "a"})).json()
    path = f"/api/v1/executions/{queued['id']}"
    begun = time.monotonic()
    answer = await front.http.delete(f"{path}?wait=0.3")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    assert time.monotonic() - begun >= 0.3
    problem(await front.http.delete(f"{path}?wait=301"), "INVALID_QUERY")
