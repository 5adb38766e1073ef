"""ExecuteBatch, Watch and Generate over gRPC."""

import asyncio
import json
import uuid

import grpc
import pytest

from loopai.ingress import flow
from loopai.ingress.rpc import loopai_pb2 as pb
from loopai.ingress.rpc import messages, streams
from tests.integration.rpc import caller as calling
from tests.integration.rpc.caller import items, terms, whole
from tests.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TICKETS = {
    "name": "parity",
    "input_schema": {"type": "integer"},
    "output_schema": {"type": "string"},
    "examples": [{"input": n, "output": "even" if n % 2 == 0 else "odd"} for n in range(3)],
}


async def test_results_come_in_order_with_a_summary(caller):
    """Items of several messages, each with its own result."""
    sent = [terms(), *[items([b'"%d"' % n, b'"x%d"' % n]) for n in range(300)]]
    results, summary = await whole(caller.batch(iter(sent)))
    assert [each.id for each in results] == [str(n) for n in range(1, 601)]
    assert [each.output for each in results[:2]] == [b'"0"', b'"X0"']
    assert (summary.total, summary.succeeded, summary.failed) == (600, 600, 0)
    assert uuid.UUID(summary.batch_id)


async def test_a_result_comes_while_the_batch_goes_on(caller):
    """Single executions over one stream: each is answered before the next is sent."""
    call = caller.batch()
    await call.write(terms(ordered=False))
    for n in range(20):
        await call.write(items([b'"a%d"' % n], id=f"mine-{n}"))
        (result,) = (await call.read()).results.results
        assert (result.id, result.output) == (f"mine-{n}", b'"A%d"' % n)
    await call.done_writing()
    assert (await call.read()).summary.total == 20
    assert await call.read() is grpc.aio.EOF


async def test_what_is_wrong_with_an_item_is_its_own(caller):
    """Others are run; line breaks between the tokens of an input are none of ours."""
    values = [b'"a"', b"x", b'1,"id":"mine"', b'"a"}\n{"input":"b"', b' \r\n "b"\n', b"7", b""]
    results, summary = await whole(caller.batch(iter([terms(), items(values)])))
    assert [each.status for each in results] == [
        *("success", "rejected", "rejected", "rejected", "success", "rejected", "rejected")
    ]
    assert [each.id for each in results] == [str(n) for n in range(1, 8)]
    assert {each.error.type for each in results} == {"", "MALFORMED_JSON", "INVALID_INPUT"}
    assert (summary.total, summary.failed) == (7, 5)


async def test_the_first_error_ends_a_batch_that_says_so(caller):
    """What comes after it is cancelled, not run."""
    sent = [terms("picky", stop_on_first_error=True, max_concurrency=8)]
    sent += [items([b'"ok"']), items([b'"bad"']), *[items([b'"ok"'])] * 30]
    results, _ = await whole(caller.batch(iter(sent)))
    assert (results[0].status, results[1].status) == ("success", "error")
    assert results[1].error.type == "ValueError"
    assert results[-1].status == "cancelled"


WRONG_TERMS = {
    "none": (None, "INVALID_REQUEST"),
    "items": (items([b"1"]), "INVALID_REQUEST"),
    "no part": (pb.ExecuteBatchRequest(), "INVALID_REQUEST"),
    "no task": (terms("none"), "TASK_NOT_FOUND"),
    "no version": (terms(version=9), "ARTIFACT_NOT_FOUND"),
    "no program": (terms("empty"), "NO_ACTIVE_VERSION"),
    "concurrency": (terms(max_concurrency=0), "INVALID_QUERY"),
    "timeout": (terms(timeout_ms=0), "INVALID_QUERY"),
}


@pytest.mark.parametrize(("first", "code"), WRONG_TERMS.values(), ids=WRONG_TERMS)
async def test_wrong_terms_are_refused(caller, first, code):
    """Before any item is looked at."""
    sent = [] if first is None else [first, items([b'"a"'])]
    assert (await calling.refusal(caller.batch(iter(sent)))).code == code


async def test_terms_come_once(caller):
    """A second time they are no items: the call ends."""
    found = await calling.refusal(caller.batch(iter([terms(), items([b'"a"']), terms()])))
    assert (found.code, found.fields[0][0]) == ("INVALID_REQUEST", "/items")


async def test_a_reader_that_stops_holds_up_the_writer(stage, caller):
    """In memory are what is on the way and a read-ahead, however many items are to be written."""
    value = b'"%b"' % (b"a" * 60_000)
    call = caller.batch()
    await call.write(terms())
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(3_000):
            await call.write(items([value]))
            written += 1

    writing = asyncio.create_task(write())
    seen = -1

    async def stands_still() -> bool:
        nonlocal seen
        before, seen = seen, written
        await asyncio.sleep(0.4)
        return written == before and written > 0

    await until(stands_still)
    held = written * len(value)
    assert held < 3 * flow.WINDOW_BYTES + 40 * streams.READ_AHEAD_BYTES < 3_000 * len(value)
    read = 0
    while read < 50:
        read += len((await call.read()).results.results)
    await until(lambda: written > seen)
    call.cancel()
    writing.cancel()
    await until(lambda: stage.system.services.dispatcher.waiting == 0)


async def test_large_results_are_several_messages(caller):
    """Each of which a client of gRPC takes by default, which is 4 MiB."""
    value = b'"%b"' % (b"a" * 200_000)
    call = caller.batch(iter([terms(), *[items([value])] * 40]))
    sizes = []
    async for each in call:
        assert each.ByteSize() < messages.RESULTS_BYTES_MAX + 300_000
        sizes += [len(result.output) for result in each.results.results]
    assert sizes == [len(value)] * 40


async def test_a_cancelled_batch_is_forgotten(stage, caller):
    """Nobody waits for what is on its way."""
    call = caller.batch()
    await call.write(terms("slow", timeout_ms=60_000))
    await call.write(items([b'"a"'] * 3))
    await until(lambda: stage.system.services.dispatcher.waiting == 3)
    call.cancel()
    await until(lambda: stage.system.services.dispatcher.waiting == 0)


async def test_a_batch_with_a_key_is_run_once(caller):
    """The second one has the results of the first."""
    key = str(uuid.uuid4())
    sent = [terms(idempotency_key=key), items([b'"a"', b'"b"'])]
    first, again = await whole(caller.batch(iter(sent))), await whole(caller.batch(iter(sent)))
    assert first == again
    sent[1] = items([b'"c"'])
    refused = await calling.refusal(caller.batch(iter(sent)))
    assert refused.code == "IDEMPOTENCY_KEY_REUSED"


async def test_an_execution_is_watched_until_it_ends(stage, caller):
    """The same events as HTTP has; none for who has had the last."""
    queued = await caller.execute("slow", timeout_ms=20_000, wait_s=0)
    events = [each async for each in caller.watch(execution_id=queued.id)]
    assert [(each.id, each.kind) for each in events] == [("queued",) * 2, ("ended",) * 2]
    ended = (await stage.system.http.get(f"/api/v1/executions/{queued.id}")).json()
    assert json.loads(events[1].data) == ended
    assert ended["status"] == "timeout"
    again = caller.watch(execution_id=queued.id, last_event_id="ended")
    assert [each async for each in again] == []
    assert await again.code() is grpc.StatusCode.OK


async def test_a_watch_that_is_cancelled_leaves_nothing(stage, caller):
    """No subscription stays for who has left."""
    hearing = stage.system.services.hearing
    queued = await caller.execute("slow", timeout_ms=5_000, wait_s=0)
    call = caller.watch(execution_id=queued.id)
    assert (await call.read()).kind == "queued"
    await until(lambda: hearing.waiting == 1)
    call.cancel()
    await until(lambda: hearing.waiting == 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "INVALID_REQUEST"),
        ({"execution_id": "a/b"}, "INVALID_REQUEST"),
        ({"execution_id": "none"}, "EXECUTION_NOT_FOUND"),
        ({"operation_id": "none"}, "OPERATION_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_not_watched(caller, fields, code):
    """With the code that HTTP has."""
    assert (await calling.refusal(caller.watch(**fields))).code == code


async def test_a_generation_is_one_operation_over_both(stage, caller):
    """With one key, over HTTP and gRPC; and it is watched until it has ended."""
    http = stage.system.http
    (await http.post("/api/v1/tasks", json=TICKETS)).raise_for_status()
    key = {"Idempotency-Key": str(uuid.uuid4())}
    path = "/api/v1/tasks/parity/generate"
    first = (await http.post(path, content=b'{"seed":3}', headers=key)).json()
    found = await caller.generate("parity", seed=3, idempotency_key=key["Idempotency-Key"])
    assert found.id == first["id"]
    events = [each async for each in caller.watch(operation_id=found.id)]
    assert events[-1].kind == "ended"
    assert json.loads(events[-1].data)["status"] == "failed"
    waited = await caller.generate("parity", wait_s=30.0)
    assert (waited.status, waited.error.code) == ("failed", "TOO_FEW_EXAMPLES")
    assert waited.updated_at.seconds >= waited.created_at.seconds > 0
    wrong = await calling.refusal(caller.generate("parity", engine="magic"))
    assert (wrong.code, wrong.fields[0][0]) == ("INVALID_REQUEST", "/engine")
    assert (await calling.refusal(caller.generate("none"))).code == "TASK_NOT_FOUND"
