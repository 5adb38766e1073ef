"""Batches: each item has its own end, in its own place."""

from streams import connection, replay
from tests.integration.ingress.problems import paths, problem
from tests.system import System

BATCH = "/api/v1/batch/execute"
PICKY = """
def run(input):
    if input.startswith("bad"):
        raise ValueError(input)
    return input.upper()
"""


async def _records(bus: connection.Connection) -> int:
    return len([each.id async for each in replay.records(bus, tenant="default")])


async def test_results_come_in_the_order_of_the_items(system: System) -> None:
    """Three hundred items, some wrong and some failing, each answered in its place."""
    task = await system.create(code=PICKY)
    items = [
        {
            "input": 7 if n % 50 == 3 else f"bad {n}" if n % 50 == 5 else f"good {n}",
            "id": f"row-{n}",
        }
        for n in range(300)
    ]
    answer = (await system.http.post(BATCH, json={"task_id": "upper", "items": items})).json()
    assert answer["task_id"] == task["id"]
    assert [each["id"] for each in answer["results"]] == [each["id"] for each in items]
    for n, each in enumerate(answer["results"]):
        if n % 50 == 3:
            assert (each["status"], each["execution_id"]) == ("rejected", None)
            assert each["error"]["type"] == "INVALID_INPUT"
            assert each["error"]["message"].startswith(f"/items/{n}/input: ")
        elif n % 50 == 5:
            assert (each["status"], each["error"]["type"]) == ("error", "ValueError")
        else:
            assert (each["status"], each["output"]) == ("success", f"GOOD {n}")
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (300, 288, 12)
    assert await _records(system.bus) == 294


async def test_an_empty_batch_has_empty_results(front: System) -> None:
    """Nothing asked, nothing done."""
    await front.create()
    answer = await front.http.post(BATCH, json={"task_id": "upper", "items": []})
    assert answer.status_code == 200
    assert (answer.json()["total"], answer.json()["results"]) == (0, [])


async def test_ids_of_items_are_the_callers_business(system: System) -> None:
    """Twice the same, empty, long and absent: they come back, and the index stands in for none."""
    await system.create()
    names = ["same", "same", "", "ü" * 1000, None, "4"]
    items = [{"input": f"{n}", "id": name} for n, name in enumerate(names)]
    answer = (await system.http.post(BATCH, json={"taskId": "upper", "items": items})).json()
    assert [each["id"] for each in answer["results"]] == [*names[:4], "4", "4"]
    assert [each["output"] for each in answer["results"]] == [f"{n}" for n in range(6)]
    assert len({each["execution_id"] for each in answer["results"]}) == 6


async def test_a_batch_may_stop_at_its_first_error(system: System) -> None:
    """One at a time: what comes after the failed item is cancelled and never runs."""
    await system.create(code=PICKY)
    for wrong, status in (("bad", "error"), (7, "rejected")):
        before = await _records(system.bus)
        body = {
            "task_id": "upper",
            "items": [{"input": value} for value in ("a", wrong, "b", "c")],
            "stop_on_first_error": True,
            "max_concurrency": 1,
        }
        answer = (await system.http.post(BATCH, json=body)).json()
        statuses = [each["status"] for each in answer["results"]]
        assert statuses == ["success", status, "cancelled", "cancelled"]
        assert await _records(system.bus) - before == (2 if wrong == "bad" else 1)
        assert answer["failed"] == 3


async def test_an_item_over_the_limit_is_refused_alone(front: System) -> None:
    """The batch may be 16 MiB, but a single input must fit a cell and a record."""
    await front.create()
    items = [{"input": "x" * (1024 * 1024 + 1)}, {"input": 1}]
    answer = await front.http.post(BATCH, json={"task_id": "upper", "items": items})
    errors = [each["error"]["type"] for each in answer.json()["results"]]
    assert errors == ["BODY_TOO_LARGE", "INVALID_INPUT"]


async def test_batches_of_a_wrong_form_are_refused_with_their_place(front: System) -> None:
    """What is wrong with the whole is told before any item runs."""
    await front.create()
    item = {"input": "a"}
    for body, path in (
        ({"task_id": "upper"}, ""),
        ({"task_id": "upper", "items": None}, "/items"),
        ({"task_id": "upper", "items": {}}, "/items"),
        ({"task_id": "upper", "items": [item, {}]}, "/items/1"),
        ({"task_id": "upper", "items": [item, {"input": 1, "id": 3}]}, "/items/1/id"),
        ({"task_id": "upper", "items": [item, {"input": 1, "x": 3}]}, "/items/1"),
        ({"task_id": "upper", "items": [item], "max_concurrency": 0}, "/max_concurrency"),
        ({"task_id": "upper", "items": [item], "max_concurrency": 10**9}, "/max_concurrency"),
        ({"task_id": "upper", "items": [item], "timeout_ms": 0}, "/timeout_ms"),
        ({"task_id": 1, "items": [item]}, "/task_id"),
        ({"task_id": "upper", "items": [item] * 10_001}, "/items"),
    ):
        document = problem(await front.http.post(BATCH, json=body), "INVALID_REQUEST")
        assert paths(document) == [path], path
    problem(await front.http.post(BATCH, json={"task_id": "x", "items": []}), "TASK_NOT_FOUND")
    unknown = {"task_id": "upper", "items": [item], "version": 9}
    problem(await front.http.post(BATCH, json=unknown), "ARTIFACT_NOT_FOUND")
    await front.http.post("/api/v1/tasks", json={"name": "bare"})
    bare = {"task_id": "bare", "items": [item]}
    problem(await front.http.post(BATCH, json=bare), "NO_ACTIVE_VERSION")
    limit = front.settings.batch_bytes_max
    problem(await front.http.post(BATCH, content=b" " * (limit + 1)), "BODY_TOO_LARGE")
    assert (await front.bus.jetstream.stream_info("EXECUTE")).state.messages == 0


async def test_items_nobody_works_on_time_out_each(front: System) -> None:
    """Without a worker every item ends at its deadline, with an id to look up."""
    await front.create()
    body = {"task_id": "upper", "items": [{"input": "a"}] * 5, "timeout_ms": 1}
    answer = (await front.http.post(BATCH, json=body)).json()
    for each in answer["results"]:
        assert (each["status"], each["error"]["type"]) == ("timeout", "DEADLINE_PASSED")
        found = await front.http.get(f"/api/v1/executions/{each['execution_id']}")
        assert found.json()["status"] == "queued"
    assert front.services.dispatcher.waiting == 0


async def test_a_batch_does_not_hold_up_single_requests(system: System) -> None:
    """A batch travels in the bulk lane: its messages are not in the interactive one."""
    await system.create()
    subscribed = await system.bus.client.subscribe("loopai.v1.execute.>")
    await system.bus.client.flush()  # others publish on connections of their own
    await system.http.post(BATCH, json={"task_id": "upper", "items": [{"input": "a"}]})
    await system.execute("a")
    lanes = [(await subscribed.next_msg(timeout=5)).subject.split(".")[3] for _ in range(2)]
    assert lanes == ["bulk", "interactive"]
