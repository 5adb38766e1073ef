"""Server-Sent Events: an execution, a batch and an operation are told as they go on."""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from loopai.embedded.broker import Broker
from loopai.ingress import events
from streams import codec, ids, subjects
from streams.connection import Connection
from streams.messages import DeadLetter, ExecutionRecord, Latency, Operation, RecordBatch
from tests.integration.ingress.asking import key_for
from tests.integration.ingress.problems import problem
from tests.system import System
from tests.wait import until
from workers import executor, generator

EVENTS = {"Accept": "text/event-stream"}
SLOW = "def run(input):\n    sum(range(int(input)))\n    return input\n"


class Told(msgspec.Struct, frozen=True):
    """One event, as a browser reads it."""

    kind: str
    data: dict[str, Any]
    id: str = ""


async def read(answer: httpx.Response) -> AsyncIterator[Told]:
    """The events of *answer*; comments and the rest are passed over."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not line:
            if "data" in fields:
                data = msgspec.json.decode(fields["data"])
                yield Told(fields["event"], data, fields.get("id", ""))
            fields = {}


async def all_of(system: System, path: str, **headers: str) -> list[Told]:
    """What is told until the server ends it."""
    asked = {**EVENTS, **headers}
    async with system.http.stream("GET", f"/api/v1{path}", headers=asked) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-api-version"] == "1"
        return [each async for each in read(answer)]


async def queue(system: System, value: str = "a", task: str = "upper") -> str:
    answer = await system.http.post(f"/api/v1/tasks/{task}/execute?wait=0", json={"input": value})
    found: str = answer.json()["id"]
    return found


async def settled(system: System) -> None:
    """Nobody listens any more, and nothing of it is left."""
    hearing = system.services.hearing
    await until(lambda: hearing.waiting == 0 and hearing.subscriptions == 0)
    assert not hearing._channels


@pytest.mark.parametrize("form", ["accept", "path"])
async def test_an_execution_is_told_until_its_end(front: System, form: str) -> None:
    """Queued, then the whole view; then the server ends it, and holds nothing for it."""
    await front.create()
    name = await queue(front)
    path = f"/executions/{name}" + ("/events" if form == "path" else "")
    telling = asyncio.create_task(all_of(front, path))
    await until(lambda: front.services.hearing.waiting == 1)
    await front.start_pool(executor)
    queued, ended = await telling
    assert (queued.kind, queued.id, queued.data["status"]) == ("queued", "queued", "queued")
    assert (ended.kind, ended.id) == ("ended", "ended")
    assert ended.data == (await front.http.get(f"/api/v1/executions/{name}")).json()
    await settled(front)


async def test_an_execution_that_has_ended_is_told_at_once(system: System) -> None:
    """And not again to a browser that comes back, which would do so for ever."""
    await system.create()
    done = (await system.execute("a")).json()
    path = f"/executions/{done['id']}/events"
    (ended,) = await all_of(system, path)
    assert (ended.kind, ended.data["output"]) == ("ended", "A")
    again = await system.http.get(f"/api/v1{path}", headers={**EVENTS, "Last-Event-ID": "ended"})
    assert (again.status_code, again.content) == (204, b"")
    (ended,) = await all_of(system, path, **{"Last-Event-ID": "queued"})
    assert ended.kind == "ended"


async def test_who_comes_back_is_not_told_twice_that_it_is_queued(front: System) -> None:
    """`Last-Event-ID: queued`: what follows is the end."""
    await front.create()
    name = await queue(front)
    telling = asyncio.create_task(
        all_of(front, f"/executions/{name}", **{"Last-Event-ID": "queued"})
    )
    await until(lambda: front.services.hearing.waiting == 1)
    await front.start_pool(executor)
    assert [each.kind for each in await telling] == ["ended"]


async def test_the_end_is_heard_and_not_polled_for(front: System) -> None:
    """Long before the next look would be due, both by events and by `?wait=`."""
    await front.create()
    name = await queue(front)
    telling = asyncio.create_task(all_of(front, f"/executions/{name}"))
    waiting = asyncio.create_task(front.http.get(f"/api/v1/executions/{name}?wait=60"))
    await until(lambda: front.services.hearing.waiting == 2)
    await front.start_pool(executor)
    async with asyncio.timeout(4):
        assert (await waiting).json()["output"] == "A"
        assert (await telling)[-1].data["output"] == "A"
    await settled(front)


async def test_a_dead_execution_has_ended(front: System) -> None:
    """DEAD is heard like RECORDS."""
    await front.create()
    name = await queue(front)
    telling = asyncio.create_task(all_of(front, f"/executions/{name}"))
    await until(lambda: front.services.hearing.waiting == 1)
    letter = DeadLetter(
        stream="EXECUTE",
        sequence=1,
        subject=subjects.execute("interactive", "default", "upper"),
        reason="max_deliveries",
        detail="gave up",
        deliveries=5,
        execution_ids=(name,),
        dead_at=datetime.now(UTC),
    )
    await front.bus.jetstream.purge_stream("EXECUTE")
    subject = subjects.dead("EXECUTE", "default", "upper")
    await front.bus.jetstream.publish(subject, codec.DEAD.encode(letter))
    async with asyncio.timeout(4):
        assert (await telling)[-1].data["error"]["type"] == "dead_letter"


async def test_what_is_not_there_is_a_problem_document(front: System) -> None:
    """Before anything is streamed: also another tenant's operation."""
    for path in (f"/executions/{ids.new()}", "/executions/x", f"/executions/{ids.new()}/events"):
        problem(await front.http.get(f"/api/v1{path}", headers=EVENTS), "EXECUTION_NOT_FOUND")
    now = datetime.now(UTC)
    theirs = Operation(
        id=ids.new(), tenant="other", task="a", task_id=ids.new(), created_at=now, updated_at=now
    )
    await front.services.operations.put(theirs.id, theirs)
    for path in (f"/operations/{theirs.id}", f"/operations/{theirs.id}/events", "/operations/x"):
        problem(await front.http.get(f"/api/v1{path}", headers=EVENTS), "OPERATION_NOT_FOUND")


async def test_another_tenants_execution_is_not_told(front: System) -> None:
    """Neither while it is queued nor once it is recorded; and it rings nobody's bell here."""
    await front.create()
    now = datetime.now(UTC)
    theirs = ExecutionRecord(
        id=ids.new(),
        tenant="other",
        task="upper",
        task_id=ids.new(),
        status="success",
        latency_ms=Latency(queue=0, run=0, total=0),
        executed_at=now,
    )
    payload = codec.RECORDS.encode(RecordBatch(records=(theirs,)))
    async with front.services.hearing.execution("default", theirs.id) as bell:
        await front.bus.jetstream.publish(subjects.record("other", "upper"), payload)
        await front.bus.client.flush()
        await front.services.connection.client.flush()
        assert not bell._rung.is_set()
    for path in (f"/executions/{theirs.id}", f"/executions/{theirs.id}/events"):
        problem(await front.http.get(f"/api/v1{path}", headers=EVENTS), "EXECUTION_NOT_FOUND")


async def test_an_execution_that_vanishes_is_told_as_a_problem(front: System) -> None:
    """Its message was purged: whoever listens is not left waiting for ever."""
    await front.create()
    name = await queue(front)
    telling = asyncio.create_task(all_of(front, f"/executions/{name}"))
    await until(lambda: front.services.hearing.waiting == 1)
    await front.bus.jetstream.purge_stream("EXECUTE")
    other = codec.RECORDS.kind(records=())
    await front.bus.jetstream.publish(subjects.record("default", "upper"), b"\xc1")
    await front.bus.jetstream.publish(
        subjects.record("default", "upper"), codec.RECORDS.encode(other)
    )
    for channel in front.services.hearing._channels.values():
        for bells in channel.bells.values():
            for bell in bells:
                bell.ring()
    *_, last = await telling
    assert (last.kind, last.data["code"]) == ("problem", "EXECUTION_NOT_FOUND")
    await settled(front)


async def test_an_operation_is_told_by_its_stages(front: System) -> None:
    """Each change once, with its revision as id; who comes back goes on after it."""
    (await front.http.post("/api/v1/tasks", json={"name": "empty"})).raise_for_status()
    asked = (await front.http.post("/api/v1/tasks/empty/generate", json={})).json()
    path = f"/operations/{asked['id']}"
    telling = asyncio.create_task(all_of(front, path))
    await until(lambda: front.services.hearing.waiting == 1)
    await front.start_pool(generator)
    told = await telling
    assert told[0].kind == "progress"
    assert told[0].data["status"] == "queued"
    assert [each.kind for each in told[-1:]] == ["ended"]
    assert told[-1].data["status"] == "failed"
    assert len({each.id for each in told}) == len(told)
    assert await all_of(front, f"{path}/events", **{"Last-Event-ID": told[0].id}) == told[-1:]
    again = await front.http.get(f"/api/v1{path}", headers={**EVENTS, "Last-Event-ID": told[-1].id})
    assert again.status_code == 204
    await settled(front)


async def test_a_batch_is_told_result_by_result(system: System) -> None:
    """As JSON or as lines in, events out: each item, then the summary."""
    await system.create()
    items = [{"id": str(n), "input": f"a{n}"} for n in range(600)] + [{"id": "bad", "input": 7}]
    lines = b"".join(msgspec.json.encode(each) + b"\n" for each in items)
    for arguments in (
        {"json": {"task_id": "upper", "items": items}, "headers": EVENTS},
        {
            "content": lines,
            "params": {"task_id": "upper"},
            "headers": {**EVENTS, "Content-Type": "application/x-ndjson"},
        },
    ):
        async with system.http.stream("POST", "/api/v1/batch/execute", **arguments) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            told = [each async for each in read(answer)]
        assert [each.data["id"] for each in told[:-1]] == [each["id"] for each in items]
        assert {each.kind for each in told[:-1]} == {"result"}
        assert told[5].data["output"] == "A5"
        assert told[-2].data["error"]["type"] == "INVALID_INPUT"
        assert told[-1].kind == "summary"
        assert told[-1].data["summary"]["succeeded"] == 600


async def test_results_of_a_batch_come_before_its_end(system: System) -> None:
    """The first is read while the last still runs."""
    await system.create("slow", SLOW)
    items = [{"input": "0"}, {"input": "20000000"}]
    body = {"task_id": "slow", "items": items, "max_concurrency": 1}
    request = system.http.stream("POST", "/api/v1/batch/execute", json=body, headers=EVENTS)
    async with request as answer:
        telling = read(answer)
        assert (await anext(telling)).data["status"] == "success"
        first = time.monotonic()
        rest = [each async for each in telling]
    assert [each.kind for each in rest] == ["result", "summary"]
    assert rest[0].data["latency_ms"] > 100
    assert time.monotonic() - first > 0.1


async def test_silence_is_broken_by_comments(
    front: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in between must not take the connection for dead; nor a browser lose its patience."""
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.1)
    await front.create()
    name = await queue(front)
    for path in (f"/executions/{name}", f"/operations/{await _operation(front)}"):
        async with front.http.stream("GET", f"/api/v1{path}", headers=EVENTS) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            found = 0
            async for line in lines:
                found += line == ":"
                if found == 3:
                    break
    await settled(front)


async def test_a_client_that_vanishes_leaves_nothing_behind(front: System) -> None:
    """A hundred that abort their connections without a word."""
    await front.create()
    name = await queue(front)
    url = front.http.base_url
    writers = []
    for _ in range(100):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            f"GET /api/v1/executions/{name}/events HTTP/1.1\r\nhost: {url.host}\r\n\r\n".encode()
        )
        await reader.readuntil(b"event: queued")
        writers.append(writer)
    assert front.services.hearing.waiting == 100
    assert front.services.hearing.subscriptions == 2
    before = len(asyncio.all_tasks())
    for writer in writers:
        writer.transport.abort()
    await settled(front)
    await until(lambda: len(asyncio.all_tasks()) <= before - 200)


async def test_who_waits_is_let_go_when_the_process_ends(front: System) -> None:
    """At once, so that a restart does not wait for them: they come back to another process."""
    await front.create()
    name = await queue(front)
    telling = [
        asyncio.create_task(all_of(front, path))
        for path in (f"/executions/{name}", f"/operations/{await _operation(front)}")
    ]
    waiting = asyncio.create_task(front.http.get(f"/api/v1/executions/{name}?wait=60"))
    await until(lambda: front.services.hearing.waiting == 3)
    front.services.hearing.close()
    async with asyncio.timeout(4):
        assert (await waiting).json()["status"] == "queued"
        assert [[each.kind for each in await told] for told in telling] == [
            ["queued"], ["progress"]
        ]  # fmt: skip
    await settled(front)


async def test_who_listens_is_told_nothing_after_the_key_has_ended(
    broker: Broker, bus: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of events, and a wait of minutes, begin with a key that may be revoked meanwhile."""
    async with contextlib.AsyncExitStack() as stack:
        front = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), auth="required"
        )
        _, admin = await key_for(front, "admin")
        front.http.headers.update(admin)
        await front.create()
        name, operation = await queue(front), await _operation(front)
        paths = [f"/executions/{name}", f"/operations/{operation}"]
        monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.2)
        made, headers = await key_for(front, "execute", "author", "operate")
        telling = [asyncio.create_task(all_of(front, path, **headers)) for path in paths]
        waiting = [
            asyncio.create_task(front.http.get(f"/api/v1{path}?wait=60", headers=headers))
            for path in paths
        ]
        await until(lambda: front.services.hearing.waiting == 3)
        await front.services.keys.revoke("default", made.id, by="test", now=datetime.now(UTC))
        async with asyncio.timeout(10):
            for told in telling:
                *_, last = await told
                assert (last.kind, last.data["code"]) == ("problem", "UNAUTHENTICATED")
        await front.start_pool(executor)
        ended = await front.services.operations.get(operation)
        await front.services.operations.put(
            operation, msgspec.structs.replace(ended.value, status="failed")
        )
        for each in waiting:
            problem(await each, "UNAUTHENTICATED")
        await settled(front)


async def test_head_is_answered_and_over(front: System) -> None:
    """Without a body there is nothing to wait for."""
    await front.create()
    name = await queue(front)
    async with asyncio.timeout(4):
        answer = await front.http.head(f"/api/v1/executions/{name}/events")
    assert answer.status_code == 200
    await settled(front)


async def test_a_thousand_listeners_are_told_in_bounded_memory(front: System) -> None:
    """Two subscriptions serve them all, and each hears of its own execution only."""
    await front.create()
    names = [await queue(front, f"a{n}") for n in range(50)]
    url = front.http.base_url
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    coming = asyncio.Semaphore(32)  # a socket that listens holds a hundred who knock

    async def listen(number: int) -> str:
        async with coming:
            reader, writer = await asyncio.open_connection(url.host, url.port)
            name = names[number % len(names)]
            writer.write(
                f"GET /api/v1/executions/{name}/events HTTP/1.1\r\nhost: {url.host}\r\n"
                "connection: close\r\n\r\n".encode()
            )
            told = (await reader.readuntil(b"event: queued")).decode()
        told += (await reader.read()).decode()
        writer.close()
        return told

    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(number)) for number in range(1000)]
        await until(lambda: front.services.hearing.waiting == 1000, within_s=60)
        assert front.services.hearing.subscriptions == 2
        await front.start_pool(executor)
    for number, each in enumerate(listening):
        told = each.result()
        assert told.count("event: ended") == 1
        assert f'"output":"A{number % 50}"' in told
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 150 * 1024
    await settled(front)


async def test_more_listeners_than_may_wait_are_refused(front: System) -> None:
    """As with everything that is waited for."""
    await front.create()
    name = await queue(front)
    hearing = front.services.hearing
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(front.settings.waiting_max):
            await stack.enter_async_context(hearing.execution("default", name))
        path = f"/api/v1/executions/{name}"
        problem(await front.http.get(f"{path}?wait=5"), "OVERLOADED")
        told = await all_of(front, f"/executions/{name}")
        assert told[-1].data["code"] == "OVERLOADED"
    await settled(front)


async def _operation(system: System) -> str:
    """One that nobody works on."""
    now = datetime.now(UTC)
    made = Operation(
        id=ids.new(), tenant="default", task="a", task_id=ids.new(), created_at=now, updated_at=now
    )
    await system.services.operations.put(made.id, made)
    return made.id
