"""The Python client against a running stack: both of its faces."""

import asyncio
import json
from pathlib import Path

import loopai_client
import pytest
from loopai_client import errors

from tests.system import TEXT, UPPER

TICKETS = json.loads((Path(__file__).parents[2] / "examples" / "tickets.json").read_text())
PICKY = "def run(input):\n    if input == 'bad':\n        raise ValueError(input)\n    return input"
SLOW = "def run(input):\n    while True:\n        pass\n"


@pytest.fixture
async def client(opened, system):
    return await opened(system.http.base_url)


async def test_a_task_is_made_read_changed_and_deleted(client):
    """Tasks have all their verbs, and a stale revision is a conflict."""
    task = await client.tasks.create("mail.spam", description="a", input_schema=TEXT)
    assert (task.name, task.input_schema, task.accuracy_target) == ("mail.spam", TEXT, 0.9)
    changed = await client.tasks.change("mail.spam", description="b", if_match=task.revision)
    assert (await client.tasks.get(task.id)).description == changed.description == "b"
    with pytest.raises(errors.ConflictError) as conflict:
        await client.tasks.change("mail.spam", description="c", if_match=task.revision)
    assert conflict.value.code == "PRECONDITION_FAILED"
    assert [each.id for each in await client.tasks.list()] == [task.id]
    await client.tasks.delete("mail.spam", if_match=changed.revision)
    with pytest.raises(errors.NotFoundError):
        await client.tasks.get(task.id)


async def test_versions_are_uploaded_rolled_out_and_executed(client):
    """From an empty task to a canary that is promoted and rolled back."""
    await client.tasks.create("upper", input_schema=TEXT, output_schema=TEXT)
    first = await client.artifacts.upload("upper", UPPER, activate=True)
    second = await client.artifacts.upload("upper", "def run(input):\n    return input * 2\n")
    assert [each.version for each in await client.artifacts.list("upper")] == [2, 1]
    assert (await client.artifacts.get("upper", 1)).code == UPPER
    assert await client.artifacts.program("upper", first.version) == UPPER

    done = await client.execute("upper", "a", routing_key="me", force_validation=True)
    assert (done.status, done.output, done.version) == ("success", "A", 1)
    assert done.raise_for_error() is done
    assert (await client.execute("upper", "a", version=second.version)).output == "aa"

    rollout = await client.rollout.change("upper", canary={"version": 2, "percent": 12.5})
    assert rollout.canary is not None
    assert rollout.canary.percent == 12.5
    assert (await client.rollout.change("upper", canary=None)).canary is None
    await client.rollout.change("upper", canary={"version": 2, "percent": 1})
    assert (await client.rollout.promote("upper")).active == 2
    assert (await client.rollout.rollback("upper")).active == 1
    assert (await client.artifacts.activate("upper", 2)).active == 2
    assert (await client.rollout.get("upper")).history[-1].action == "activate"


async def test_a_program_is_generated_with_progress(client):
    """The operation is waited for, and each stage of it is told once."""
    heard = []
    await client.tasks.create(**TICKETS)
    done = await client.generate("tickets", seed=0, on_progress=heard.append)
    assert (done.status, done.version) == ("succeeded", 1)
    assert heard[-1].ended
    told = [(each.status, each.stage) for each in heard]
    assert len(set(told)) == len(told)
    assert (await client.operations.get(done.id)).ended
    queued = await client.generate("tickets", timeout_s=0)
    assert not queued.ended
    with pytest.raises(errors.DeadlineExceeded):
        await client.operations.wait(queued.id, 0.001)
    assert (await client.operations.wait(queued.id)).version == 2


async def test_an_execution_is_queued_waited_for_and_cancelled(client, system):
    """`wait_s` 0 gives an id to come back with; one that hangs is cancelled."""
    await system.create()
    queued = await client.execute("upper", "a", wait_s=0)
    assert queued.status == "queued"
    assert not queued.ended
    done = await client.executions.wait(queued.id)
    assert (done.output, done.input) == ("A", "a")
    assert (await client.executions.get(queued.id, wait_s=1)).ended

    await system.create("slow", SLOW)
    hanging = await client.execute("slow", "a", wait_s=0, timeout_ms=60_000)
    with pytest.raises(errors.DeadlineExceeded):
        await client.executions.wait(hanging.id, 0.05)
    assert (await client.executions.cancel(hanging.id)).status == "cancelling"
    ended = await client.executions.wait(hanging.id)
    with pytest.raises(errors.ExecutionFailed, match="cancelled") as failed:
        ended.raise_for_error()
    assert failed.value.execution is ended


async def test_errors_are_told_apart(client, system):
    """Each family of statuses has its class, with what the problem document says."""
    await system.create()
    with pytest.raises(errors.NotFoundError) as missing:
        await client.execute("nothing", "a")
    assert (missing.value.status, missing.value.code) == (404, "TASK_NOT_FOUND")
    assert len(missing.value.trace_id or "") == 32
    with pytest.raises(errors.InvalidRequestError) as invalid:
        await client.execute("upper", 7)
    assert invalid.value.code == "INVALID_INPUT"
    assert invalid.value.errors[0].path == "/input"
    await system.create("slow", SLOW)
    # Who comes first, the record or the end of the wait, is chance: both lead to the record.
    try:
        late = await client.execute("slow", "a", timeout_ms=100)
    except errors.ServerError as error:
        late = await client.executions.wait(error.extra["execution_id"])
    assert late.status == "timeout"


async def test_a_batch_has_results_in_order(client, system):
    """Items that fail are results among the others."""
    await system.create("picky", PICKY)
    items = [{"id": "x", "input": "a"}, {"input": "bad"}, {"input": 7}]
    done = await client.batch.run("picky", items, max_concurrency=8)
    assert [each.id for each in done.results] == ["x", "1", "2"]
    assert [each.status for each in done.results] == ["success", "error", "rejected"]
    assert (done.total, done.succeeded, done.failed) == (3, 1, 2)
    with pytest.raises(errors.ExecutionFailed):
        done.results[1].raise_for_error()


async def test_a_stream_takes_no_more_than_its_window(client, system):
    """However many items there are, a window of them is taken and not yet answered."""
    await system.create()
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield {"input": "a"}

    seen = 0
    async for result in client.batch.stream("upper", endless(), window=50):
        assert (result.id, result.output) == (str(seen), "A")
        seen += 1
        assert taken - seen < 50
        if seen == 175:
            break
    assert taken == 200


async def test_a_window_is_bounded_in_bytes_too(client, system):
    """Items of a megabyte do not wait for 499 others."""
    await system.create("length", "def run(input):\n    return str(len(input))\n")
    items = ({"input": "a" * 700_000} for _ in range(5))
    found = [each.output async for each in client.batch.stream("length", items)]
    assert found == ["700000"] * 5


async def test_a_slow_source_is_not_waited_for(system):
    """An item that comes alone is answered before the next one is there."""
    await system.create()
    answered = asyncio.Event()

    async def slow():
        yield {"input": "a"}
        await answered.wait()
        yield {"input": "b"}

    async with loopai_client.AsyncClient(str(system.http.base_url)) as client:
        found = []
        async for result in client.batch.stream("upper", slow()):
            found.append(result.output)
            answered.set()
    assert found == ["A", "B"]


@pytest.mark.parametrize(
    ("items", "window", "wrong"),
    [([{"inputs": 1}], 1, TypeError), (["a"], 1, TypeError), ([], 0, ValueError)],
)
async def test_what_is_no_item_is_refused(client, items, window, wrong):
    """Nothing is sent of what cannot be right."""
    with pytest.raises(wrong, match=r"item 0|window 0"):
        _ = [each async for each in client.batch.stream("upper", items, window=window)]


async def test_the_system_can_be_looked_at(client, system):
    """Health, queues and sites."""
    await system.create()
    await client.execute("upper", "a")
    assert (await client.health()).checks["broker"] == "ok"
    assert await client.sync() == []
    assert {each.task for each in await client.queues()} <= {"upper"}
    assert {each.task for each in await client.queues("upper")} <= {"upper"}


@pytest.mark.parametrize(
    ("given", "named"),
    [({"url": "ftp://x"}, "url"), ({"max_retries": -1}, "max_retries"), ({"deadline_s": 0}, "dea")],
)
def test_a_client_that_cannot_work_is_not_made(given, named):
    """The error names what was given."""
    with pytest.raises(ValueError, match=named):
        loopai_client.Client(**given)


async def test_the_environment_says_where_and_who(opened, system, monkeypatch):
    """LOOPAI_URL and LOOPAI_API_KEY count where nothing is given."""
    monkeypatch.setenv("LOOPAI_URL", f"{system.http.base_url}/")
    monkeypatch.setenv("LOOPAI_API_KEY", "lpk_x")
    client = await opened("")
    assert (await client.health()).status in ("healthy", "degraded")
