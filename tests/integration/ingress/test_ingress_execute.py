"""Executions: waited for, looked up later, refused, failed, late, and abandoned."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import parser

from loopai.embedded.broker import Broker
from streams import connection, ids, provision, topology
from tests.integration.ingress.problems import problem
from tests.system import UPPER, System
from workers import executor

EXECUTE = "/api/v1/tasks/upper/execute"
FAILING = """
def run(input):
    if input == "raise":
        raise ValueError("no such thing")
    if input == "hang":
        while True:
            pass
    if input == "number":
        return 7
    if input == "set":
        return {1, 2}
    if input == "surrogate":
        return "\\ud800"
    if input == "infinite":
        return float("inf")
    if input == "long":
        return "x" * 10_000_000
    return input
"""
NO_EXECUTIONS = [
    "nope",
    "00000000-0000-0000-0000-000000000000",
    "00000000-0000-7000-8000-000000000000",
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "e6a1f9d0-0d2b-4c57-9d0c-0f3c5e7e9a11",
    "{01a205e8-e395-7acc-a100-da14eb0a8d81}",
    "01A205E8-E395-7ACC-A100-DA14EB0A8D81",
    "*",
    "%00",
    "%3E",
    "a" * 5000,
]


@pytest.fixture
async def narrow(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """An ingress whose tasks may have three messages queued per lane, and no worker."""
    await provision.apply(bus, topology.topology(execute_backlog_max=3))
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), execute_backlog_max=3
        )


async def _waiting(system: System) -> float:
    text = (await system.http.get("/metrics")).text
    samples = {
        s.name: s.value for f in parser.text_string_to_metric_families(text) for s in f.samples
    }
    return samples["loopai_executions_waiting"]


async def _nobody_waits(system: System) -> None:
    async with asyncio.timeout(10):
        while await _waiting(system):
            pass
    assert system.services.dispatcher.waiting == 0


async def test_programs_that_fail_are_answers_not_errors(system: System) -> None:
    """Exception, endless loop and bad results are a 200 with a status and what went wrong."""
    await system.create(code=FAILING, output_schema={"type": "string", "maxLength": 5})
    expected = {
        "fine": ("success", None, ""),
        "raise": ("error", "ValueError", "no such thing"),
        "hang": ("timeout", None, ""),
        "number": ("error", "invalid_output", "/output"),
        "a text too long": ("error", "invalid_output", "/output"),
        "set": ("error", None, "set"),
        "surrogate": ("error", None, "surrogate"),
        "infinite": ("error", None, "finite"),
        "long": ("error", None, ""),
    }
    for value, (status, kind, words) in expected.items():
        answer = await system.execute(value, timeout_ms=3_000 if value != "hang" else 300)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["status"] == status, body
        if status == "success":
            assert body["error"] is None
            continue
        assert body["output"] is None
        assert kind in (None, body["error"]["type"]), body
        assert words in body["error_message"], body
        assert body["error"]["message"] == body["error_message"]
    await _nobody_waits(system)


async def test_an_answer_carries_all_that_is_documented(system: System) -> None:
    """Who, what, which version, how long, when: the same now and in the audit."""
    task = await system.create()
    answer = (await system.execute("a", force_validation=True)).json()
    assert answer["execution_id"] == answer["id"]
    assert ids.is_id(answer["id"])
    assert (answer["task"], answer["task_id"], answer["version"]) == ("upper", task["id"], 1)
    assert answer["sampled_for_validation"] is True
    assert answer["latency_ms"] >= answer["latency"]["run"] > 0
    assert datetime.fromisoformat(answer["executed_at"]) <= datetime.now(UTC)
    assert "input" not in answer
    recorded = (await system.http.get(f"/api/v1/executions/{answer['id']}")).json()
    assert recorded == answer | {"input": "a"}


async def test_a_pinned_version_answers_whatever_is_active(system: System) -> None:
    """`version` runs that version; without it the active one runs."""
    await system.create()
    body = {"code": "def run(input):\n    return 'two'\n", "activate": True}
    await system.http.post("/api/v1/tasks/upper/artifacts", json=body)
    pinned = (await system.execute("a", version=1)).json()
    assert (pinned["output"], pinned["version"]) == ("A", 1)
    newest = (await system.execute("a", version=2)).json()
    assert (newest["output"], newest["version"]) == ("two", 2)


async def test_the_task_may_stand_in_the_body(system: System) -> None:
    """POST /tasks/execute runs the task of `task_id`, an id or a name, in both spellings."""
    task = await system.create()
    for fields in ({"task_id": task["id"]}, {"task_id": "upper"}, {"taskId": "upper"}):
        answer = await system.http.post("/api/v1/tasks/execute", json={**fields, "input": "a"})
        assert answer.json()["output"] == "A", answer.text
    nobody = {"task_id": "nobody", "input": "a"}
    problem(await system.http.post("/api/v1/tasks/execute", json=nobody), "TASK_NOT_FOUND")


async def test_what_cannot_run_is_refused_at_once(front: System) -> None:
    """Unknown task, no active version, unknown version: told before anything is queued."""
    await front.http.post("/api/v1/tasks", json={"name": "bare"})
    problem(await front.execute("a", "nobody"), "TASK_NOT_FOUND")
    problem(await front.execute("a", ids.new()), "TASK_NOT_FOUND")
    problem(await front.execute("a", "bare"), "NO_ACTIVE_VERSION")
    problem(await front.execute("a", "bare", version=1), "ARTIFACT_NOT_FOUND")
    assert (await front.bus.jetstream.stream_info("EXECUTE")).state.messages == 0


async def test_an_accepted_execution_is_queued_and_then_recorded(front: System) -> None:
    """202 with a Location, which says queued until a worker comes, and the result after."""
    await front.create()
    for options in (
        {"params": {"wait": "0"}},
        {"headers": {"Prefer": "respond-async"}},
        {"headers": {"Prefer": "respond-async, wait=0"}},
    ):
        answer = await front.http.post(EXECUTE, json={"input": "late"}, **options)
        assert answer.status_code == 202, answer.text
        location = answer.headers["location"]
        assert location == f"/api/v1/executions/{answer.json()['id']}"
        assert answer.headers["preference-applied"] == "respond-async"
        queued = (await front.http.get(location)).json()
        assert (queued["status"], queued["execution_id"]) == ("queued", answer.json()["id"])
    await front.start_pool(executor)
    ended = (await front.http.get(location, params={"wait": "10"})).json()
    assert (ended["status"], ended["output"], ended["input"]) == ("success", "LATE", "late")


async def test_ids_of_no_execution_are_not_found(front: System) -> None:
    """Other UUIDs, other texts and times beyond the calendar are a 404, and cannot be cancelled."""
    for each in [*NO_EXECUTIONS, ids.new()]:
        for ask in (front.http.get, front.http.delete):
            problem(await ask(f"/api/v1/executions/{each}?wait=5"), "EXECUTION_NOT_FOUND")
    bucket = await front.bus.jetstream.stream_info(topology.CANCELLATIONS.stream)
    assert bucket.state.messages == 0


async def test_a_passed_deadline_names_the_execution_to_look_up(front: System) -> None:
    """504 while nobody works; once somebody does, the execution is recorded as too late."""
    await front.create()
    document = problem(await front.execute("a", timeout_ms=1), "DEADLINE_PASSED")
    location = f"/api/v1/executions/{document['execution_id']}"
    assert location in document["detail"]
    assert (await front.http.get(location)).json()["status"] == "queued"
    await _nobody_waits(front)
    await front.start_pool(executor)
    ended = (await front.http.get(location, params={"wait": "10"})).json()
    assert (ended["status"], ended["error"]["type"]) == ("timeout", "deadline_exceeded")
    assert ended["output"] is None


async def test_a_full_backlog_is_told_with_when_to_come_again(narrow: System) -> None:
    """The fourth message is a 503 with Retry-After; other tasks and later times are not touched."""
    await narrow.create()
    await narrow.create("calm")
    for _ in range(3):
        queued = await narrow.http.post(EXECUTE + "?wait=0", json={"input": "a"})
        assert queued.status_code == 202
    for path in (EXECUTE, EXECUTE + "?wait=0"):
        answer = await narrow.http.post(path, json={"input": "a"})
        assert "'upper'" in problem(answer, "BACKLOG_FULL")["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    await _nobody_waits(narrow)
    calm = await narrow.http.post("/api/v1/tasks/calm/execute?wait=0", json={"input": "a"})
    assert calm.status_code == 202
    await narrow.start_pool(executor)
    await narrow.http.get(f"/api/v1/executions/{queued.json()['id']}?wait=10")
    assert (await narrow.execute("b")).json()["output"] == "B"


async def test_callers_that_go_away_leave_nothing_behind(front: System) -> None:
    """Fifty who hang up are forgotten at their deadline at the latest; their work is not lost."""
    await front.create()
    url = httpx.URL(str(front.http.base_url))
    body = b'{"input": "a", "timeout_ms": 1500}'
    head = f"POST {EXECUTE} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head + body)
        writers.append(writer)
    async with asyncio.timeout(10):
        while await _waiting(front) < 50:
            pass
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await _nobody_waits(front)
    assert (await front.bus.jetstream.stream_info("EXECUTE")).state.messages > 0
    await front.start_pool(executor)
    assert (await front.execute("b")).json()["output"] == "B"


async def test_both_doors_answer_their_own_callers(front: System, other: System) -> None:
    """Results go to the ingress that waits for them, however requests interleave."""
    await front.create(code=UPPER)
    await front.start_pool(executor)
    doors = [front, other]
    answers = await asyncio.gather(*(doors[n % 2].execute(f"text {n}") for n in range(40)))
    assert [each.json()["output"] for each in answers] == [f"TEXT {n}" for n in range(40)]
    found = await other.http.get(f"/api/v1/executions/{answers[0].json()['id']}")
    assert found.json()["output"] == "TEXT 0"


@pytest.mark.parametrize("prefer", [None, "respond-async, wait={}", "wait={}"])
async def test_a_caller_who_waits_a_while_gets_the_result_or_the_way_to_it(
    system: System, prefer: str | None
) -> None:
    """Within the wait the result itself, after it a 202 with the place to look."""

    async def post(value: str, wait_s: int) -> httpx.Response:
        if prefer is None:
            return await system.http.post(f"{EXECUTE}?wait={wait_s}", json={"input": value})
        headers = {"Prefer": prefer.format(wait_s)}
        return await system.http.post(EXECUTE, json={"input": value}, headers=headers)

    await system.create()
    soon = await post("a", 20)
    await system.stop_pool(executor)
    late = await post("b", 1)
    await system.start_pool(executor)

    assert (soon.status_code, soon.json()["output"]) == (200, "A")
    assert (late.status_code, late.json()["status"]) == (202, "queued")
    found = await system.http.get(late.headers["Location"], params={"wait": 20})
    assert found.json()["output"] == "B"


async def test_a_wait_shorter_than_the_bus_takes_is_no_deadline(front: System) -> None:
    """What is stored is queued, however soon its caller wanted to hear of it."""
    await front.create()
    for wait in ("1e-150", "1e-9", "0.0001"):
        answer = await front.http.post(f"{EXECUTE}?wait={wait}", json={"input": "a"})
        assert answer.status_code == 202, answer.text
        found = await front.http.get(answer.headers["location"])
        assert found.json()["status"] == "queued"
