"""Executions with an idempotency key: asked for many times, run once."""

import asyncio
import contextlib
import dataclasses
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from loopai import errors
from loopai.embedded.broker import Broker
from loopai.ingress import dispatch, idempotency
from streams import codec, ids, replay, store, topology
from streams.connection import Connection
from streams.messages import DeadLetter, ExecutionRecord, IdempotencyClaim
from tests.integration.ingress.problems import paths, problem
from tests.system import System
from tests.wait import until
from workers import executor

EXECUTE = "/api/v1/tasks/upper/execute"
REPLAYED = "idempotent-replayed"
TIMEOUT_MS = 30_000
GIVEN_UP_S = dispatch.FRESH_S + TIMEOUT_MS / 1000 + replay.CLOCK_SKEW.total_seconds() + 1
"""Age of a claim that nobody can send any more."""


async def records(bus: Connection, task: str = "upper") -> list[ExecutionRecord]:
    return [record async for record in replay.records(bus, tenant="default", task=task)]


async def post(
    system: System, key: str, value: object = "a", path: str = EXECUTE, **fields: Any
) -> httpx.Response:
    return await system.http.post(
        path, json={"input": value, **fields}, headers={"Idempotency-Key": key}
    )


def claims(bus: Connection) -> store.Bucket[IdempotencyClaim]:
    return store.Bucket(bus, topology.IDEMPOTENCY, codec.IDEMPOTENCY)


def named(key: str, body: bytes) -> idempotency.Keyed:
    scope = {"method": "POST", "path": EXECUTE, "query_string": b"", "headers": []}
    return idempotency.keyed(scope, key, body)


async def test_a_second_call_gets_the_answer_of_the_first(system: System) -> None:
    """The same bytes, marked as a replay; one record."""
    await system.create()
    first = await post(system, "k-1")
    second = await post(system, "k-1")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["output"] == "A"
    assert second.content == first.content
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert [record.id for record in await records(system.bus)] == [first.json()["id"]]


async def test_the_key_may_stand_in_the_body(system: System) -> None:
    """Also in camelCase, as the original's clients write, and quoted in the header as drafted."""
    await system.create()
    first = await system.http.post(EXECUTE, json={"input": "a", "idempotency_key": "k"})
    assert first.status_code == 200, first.text
    again = await system.http.post(EXECUTE, json={"input": "a", "idempotency_key": "k"})
    assert again.json()["id"] == first.json()["id"]
    both = {"input": "a", "idempotencyKey": "k-2"}
    camel = await system.http.post(EXECUTE, json=both, headers={"Idempotency-Key": '"k-2"'})
    bare = await system.http.post(EXECUTE, json=both, headers={"Idempotency-Key": "k-2"})
    assert camel.json()["id"] == bare.json()["id"] != first.json()["id"]
    assert len(await records(system.bus)) == 2


async def test_a_hundred_callers_at_once_cause_one_execution(
    front: System, other: System, worker: None
) -> None:
    """Over two ingresses; every caller has the answer, of the one execution."""
    await front.create()
    await until(lambda: other.services.catalog.find("default", "upper") is not None)
    answers = await asyncio.gather(
        *(post((front, other)[number % 2], "one") for number in range(100))
    )
    assert {answer.status_code for answer in answers} == {200}
    (record,) = await records(front.bus)
    assert {answer.json()["id"] for answer in answers} == {record.id}
    assert {answer.json()["output"] for answer in answers} == {"A"}
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1


async def test_a_call_while_the_first_runs_attaches_to_it(front: System, other: System) -> None:
    """Nothing is there to run it yet: both wait, on two ingresses, and are told together."""
    await front.create()
    await until(lambda: other.services.catalog.find("default", "upper") is not None)
    first = asyncio.create_task(post(front, "k"))
    await until(lambda: front.services.dispatcher.waiting == 1)
    here, there = asyncio.create_task(post(front, "k")), asyncio.create_task(post(other, "k"))
    asked = await other.http.post(
        EXECUTE, json={"input": "a"}, headers={"Idempotency-Key": "k", "Prefer": "respond-async"}
    )
    assert asked.status_code == 202
    assert asked.headers[REPLAYED] == "true"
    await front.start_pool(executor)
    bodies = [(await each).json() for each in (first, here, there)]
    (record,) = await records(front.bus)
    assert [body["id"] for body in (*bodies, asked.json())] == [record.id] * 4


async def test_who_does_not_wait_gets_the_result_by_asking_again(
    front: System, bus: Connection
) -> None:
    """202 at first; the same key gets 202 until there is a result, then the result."""
    await front.create()
    queued = await post(front, "k", path=f"{EXECUTE}?wait=0")
    assert queued.status_code == 202
    again = await post(front, "k", path=f"{EXECUTE}?wait=0")
    assert again.status_code == 202
    assert again.headers["location"] == queued.headers["location"]
    await front.start_pool(executor)
    ended = await post(front, "k")
    assert ended.status_code == 200
    assert ended.json()["id"] == queued.json()["id"]
    assert len(await records(bus)) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EXECUTE, {"input": "b"}),
        (EXECUTE, {"input": "a", "timeout_ms": 1000}),
        ("/api/v1/tasks/execute", {"input": "a", "task_id": "upper"}),
        ("/api/v1/tasks/lower/execute", {"input": "a"}),
        ("/api/v1/tasks", {"name": "new"}),
    ],
)
async def test_the_same_key_for_another_request_is_refused(
    system: System, path: str, body: dict[str, Any]
) -> None:
    """Another body or path: 422, and nothing happens."""
    await system.create()
    await system.create("lower")
    assert (await post(system, "k")).status_code == 200
    answer = await system.http.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert "Idempotency-Key" in problem(answer, "IDEMPOTENCY_KEY_REUSED")["detail"]
    assert len(await records(system.bus)) == 1
    assert (await post(system, "k", path=f"{EXECUTE}?wait=9")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Idempotency-Key", "")],
        [("Idempotency-Key", "a b")],
        [("Idempotency-Key", "caf\u00e9")],
        [("Idempotency-Key", "k" * (idempotency.KEY_CHARACTERS_MAX + 1))],
        [("Idempotency-Key", '"')] * 2,
    ],
)
@pytest.mark.parametrize("path", [EXECUTE, "/api/v1/tasks"])
async def test_a_key_that_is_none_is_refused(
    front: System, path: str, headers: list[tuple[str, str]]
) -> None:
    """Empty, with a space, not ASCII, too long, twice: 400 that names the header."""
    await front.create()
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await front.http.post(path, json={"input": "a"}, headers=encoded)
    assert problem(answer, "INVALID_QUERY")["detail"].startswith("Idempotency-Key:")


async def test_the_longest_key_is_taken(system: System) -> None:
    """255 characters, in the header and in the body."""
    await system.create()
    key = "k" * idempotency.KEY_CHARACTERS_MAX
    assert (await post(system, key)).status_code == 200
    assert (await post(system, key)).headers[REPLAYED] == "true"


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "a\n"])
async def test_a_key_in_the_body_is_checked(front: System, key: str) -> None:
    """422 that names the field."""
    await front.create()
    answer = await front.http.post(EXECUTE, json={"input": "a", "idempotency_key": key})
    assert paths(problem(answer, "INVALID_REQUEST")) == ["/idempotency_key"]


async def test_two_different_keys_in_one_request_are_refused(front: System) -> None:
    """Header and body must agree."""
    await front.create()
    answer = await post(front, "k", idempotency_key="l")
    assert paths(problem(answer, "INVALID_REQUEST")) == ["/idempotency_key"]


async def test_what_was_refused_is_not_kept(system: System) -> None:
    """A request that is mended may be sent with the same key: nothing was done under it."""
    await system.create(input_schema={"type": "string", "maxLength": 3})
    problem(await post(system, "k", "abcd"), "INVALID_INPUT")
    answer = await post(system, "k", "abc")
    assert answer.json()["output"] == "ABC"
    assert REPLAYED not in answer.headers


async def test_an_answer_outlives_its_task_and_the_ingress(front: System, other: System) -> None:
    """It is found in RECORDS by an ingress that never saw the request."""
    await front.create()
    await front.start_pool(executor)
    first = await post(front, "k")
    assert (await front.http.delete("/api/v1/tasks/upper")).status_code == 204
    answer = await post(other, "k")
    assert answer.status_code == 200
    assert answer.content == first.content


async def test_a_claim_whose_ingress_died_is_sent_by_the_next_caller(system: System) -> None:
    """Claimed and never published: the next call runs it, under the id that was claimed."""
    task = await system.create()
    body = b'{"input":"a"}'
    claim = _claim(task, named("k", body), ids.new())
    await claims(system.bus).create(named("k", body).name, claim)
    answer = await _raw(system, "k", body)
    assert answer.json()["output"] == "A"
    assert [record.id for record in await records(system.bus)] == [claim.execution_id]


async def test_an_old_claim_without_a_trace_gets_a_new_execution(system: System) -> None:
    """Its id would be looked for at the wrong time; the claim has the new one."""
    task = await system.create()
    body = b'{"input":"a"}'
    keyed = named("k", body)
    claim = _claim(task, keyed, _minted(GIVEN_UP_S))
    await claims(system.bus).create(keyed.name, claim)
    answer = await _raw(system, "k", body)
    assert answer.json()["output"] == "A"
    assert answer.json()["id"] != claim.execution_id
    entry = await claims(system.bus).get(keyed.name)
    assert entry is not None
    assert entry.value.execution_id == answer.json()["id"]
    assert (await _raw(system, "k", body)).json()["id"] == answer.json()["id"]
    assert len(await records(system.bus)) == 1


async def test_an_old_claim_that_may_still_be_sent_is_waited_for(system: System) -> None:
    """Its ingress may have it in hand, and lack the broker: until its deadline nothing is sent."""
    task = await system.create()
    body = b'{"input":"a"}'
    claim = _claim(task, named("k", body), _minted(GIVEN_UP_S - 10))
    await claims(system.bus).create(named("k", body).name, claim)
    answer = await _raw(system, "k", body)
    assert problem(answer, "UNAVAILABLE")["execution_id"] == claim.execution_id
    assert 0 < int(answer.headers["retry-after"]) <= 10
    assert await records(system.bus) == []


async def test_what_records_have_forgotten_is_not_run_again(system: System) -> None:
    """RECORDS, full, drops its oldest: the key says that its answer is gone, and runs nothing."""
    task = await system.create()
    body = b'{"input":"a"}'
    claim = _claim(task, named("k", body), _minted(GIVEN_UP_S))
    await claims(system.bus).create(named("k", body).name, claim)
    for value in ("b", "c"):
        await system.execute(value)
    await system.bus.jetstream.purge_stream("RECORDS", keep=1)
    document = problem(await _raw(system, "k", body), "ANSWER_NOT_KEPT")
    assert document["execution_id"] == claim.execution_id
    assert len(await records(system.bus)) == 1


async def test_an_execution_that_took_too_long_to_be_sent_is_not_sent(front: System) -> None:
    """An ingress that stood still between claim and publish must not send what was given up."""
    await front.create()
    task = front.services.catalog.find("default", "upper")
    item = dispatch.item(
        b'"a"', version=None, timeout_ms=60_000, force_validation=False, trace_id="",
        routing_key=None,
    )  # fmt: skip
    stale = msgspec.structs.replace(item, id=_minted(dispatch.FRESH_S + 1))
    with pytest.raises(errors.ApiError, match="too long"):
        await front.services.dispatcher.begin_alone(task, stale, "interactive")
    assert (await front.bus.jetstream.stream_info("EXECUTE")).state.messages == 0


async def test_who_attaches_waits_no_longer_than_the_first(front: System, other: System) -> None:
    """504 at the deadline of the execution, from another ingress as well, by the same id."""
    await front.create()
    await until(lambda: other.services.catalog.find("default", "upper") is not None)
    first = asyncio.create_task(post(front, "k", timeout_ms=1_000))
    await until(lambda: front.services.dispatcher.waiting == 1)
    second = await post(other, "k", timeout_ms=1_000)
    documents = [problem(answer, "DEADLINE_PASSED") for answer in (await first, second)]
    assert documents[0]["execution_id"] == documents[1]["execution_id"]


async def test_who_finds_no_room_claims_nothing(
    broker: Broker, bus: Connection, tmp_path: Path
) -> None:
    """503 while as many wait here as may; the key is as free as before."""
    async with contextlib.AsyncExitStack() as stack:
        narrow = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), waiting_max=1
        )
        await narrow.create()
        waiting = asyncio.create_task(post(narrow, "w", timeout_ms=3_000))
        await until(lambda: narrow.services.dispatcher.waiting == 1)
        problem(await post(narrow, "k"), "OVERLOADED")
        assert await claims(bus).get(named("k", b"").name) is None
        problem(await waiting, "DEADLINE_PASSED")
        assert (await post(narrow, "k", "b", path=f"{EXECUTE}?wait=0")).status_code == 202


async def test_a_late_result_answers_the_next_call(front: System) -> None:
    """504 at the deadline is not kept: the same key asks for the same execution."""
    await front.create()
    late = await post(front, "k", timeout_ms=200)
    execution_id = problem(late, "DEADLINE_PASSED")["execution_id"]
    await front.start_pool(executor)
    await until(lambda: _is_recorded(front, execution_id))
    answer = await post(front, "k", timeout_ms=200)
    assert (answer.status_code, answer.json()["id"]) == (200, execution_id)
    assert answer.json()["status"] == "timeout"


async def test_what_went_to_dead_is_the_answer(system: System) -> None:
    """The execution ended there: whoever asks again is told so, and it does not run again."""
    task = await system.create()
    body = b'{"input":"a"}'
    claim = _claim(task, named("k", body), ids.new())
    await claims(system.bus).create(named("k", body).name, claim)
    letter = DeadLetter(
        stream="EXECUTE",
        sequence=1,
        subject="",
        reason="max_deliveries",
        detail="five workers died",
        deliveries=5,
        execution_ids=(claim.execution_id,),
        dead_at=datetime.now(UTC),
    )
    subject = "loopai.v1.dead.EXECUTE.default.upper"
    await system.bus.jetstream.publish(subject, codec.DEAD.encode(letter))
    answer = await _raw(system, "k", body)
    assert (answer.status_code, answer.json()["id"]) == (200, claim.execution_id)
    assert answer.json()["error"]["type"] == "dead_letter"
    assert await records(system.bus) == []


async def test_a_full_bucket_refuses_keys_and_nothing_else(system: System) -> None:
    """503 for a request with a new key, which is not run; known keys and no keys are served."""
    await system.create()
    first = await post(system, "k")
    bucket = await system.bus.jetstream.stream_info(topology.IDEMPOTENCY.stream)
    await system.bus.jetstream.update_stream(
        dataclasses.replace(bucket.config, max_bytes=bucket.state.bytes)
    )
    for path in (EXECUTE, "/api/v1/tasks"):
        body = {"input": "b"} if path == EXECUTE else {"name": "b"}
        answer = await system.http.post(path, json=body, headers={"Idempotency-Key": "l"})
        problem(answer, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
    assert (await post(system, "k")).content == first.content
    assert (await system.execute("c")).status_code == 200
    assert len(await records(system.bus)) == 2
    assert (await system.http.get("/api/v1/tasks/b")).status_code == 404


async def _is_recorded(system: System, execution_id: str) -> bool:
    return execution_id in {record.id for record in await records(system.bus)}


def _minted(age_s: float) -> str:
    """An id of *age_s* ago."""
    return ids.at(int((time.time() - age_s) * 1000), b"0123456789")


def _claim(task: dict[str, Any], keyed: idempotency.Keyed, execution_id: str) -> IdempotencyClaim:
    return IdempotencyClaim(
        fingerprint=keyed.fingerprint,
        tenant="default",
        task="upper",
        task_id=task["id"],
        execution_id=execution_id,
        timeout_ms=TIMEOUT_MS,
        claimed_at=datetime.now(UTC),
    )


async def _raw(system: System, key: str, body: bytes) -> httpx.Response:
    return await system.http.post(EXECUTE, content=body, headers={"Idempotency-Key": key})
