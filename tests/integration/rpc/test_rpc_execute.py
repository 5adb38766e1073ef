"""Execute over gRPC means what it means over HTTP."""

import asyncio
import json
import random
import uuid

import grpc
import pytest

from loopai import errors
from loopai.ingress.rpc import server, status
from tests.integration.rpc import caller as calling
from tests.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAME = {
    "done": ("upper", '"straße 🙂"', {}),
    "a version": ("upper", '"a"', {"version": 1}),
    "failed": ("picky", '"bad"', {}),
    "no such task": ("none", '"a"', {}),
    "no such version": ("upper", '"a"', {"version": 7}),
    "no version at all": ("empty", '"a"', {}),
    "another type": ("upper", "7", {}),
    "no time": ("upper", '"a"', {"timeout_ms": 0}),
    "too much time": ("upper", '"a"', {"timeout_ms": 2**40}),
    "too large": ("upper", json.dumps("a" * 290_000), {}),
    "too large a body": ("upper", json.dumps("a" * 300_000), {}),
    "no key": ("upper", '"a"', {"idempotency_key": ""}),
    "too long a key": ("upper", '"a"', {"idempotency_key": "k" * 256}),
    "too long a routing key": ("upper", '"a"', {"routing_key": "k" * 1000}),
    "a negative wait": ("upper", '"a"', {"wait_s": -1.0}),
    "too long a wait": ("upper", '"a"', {"wait_s": 301.0}),
}


@pytest.mark.parametrize(("task", "value", "fields"), SAME.values(), ids=SAME)
async def test_the_same_call_comes_to_the_same(stage, caller, task, value, fields):
    """Statuses, codes, sentences, places and results are those of HTTP."""
    fields = dict(fields)
    call = caller.execute(task, value.encode(), **fields)
    query = {"wait": str(fields.pop("wait_s"))} if "wait_s" in fields else {}
    key = fields.pop("idempotency_key", None)
    answer = await stage.system.http.post(
        f"/api/v1/tasks/{task}/execute",
        content=b'{"input":%b%b}'
        % (
            value.encode(),
            b"".join(b',"%b":%b' % (n.encode(), json.dumps(v).encode()) for n, v in fields.items()),
        ),
        params=query,
        headers={} if key is None else {"Idempotency-Key": key},
    )
    document = answer.json()
    if answer.status_code == 200:
        found = await call
        assert found.task == task
        assert found.status == document["status"]
        assert json.loads(found.output) == document["output"]
        assert found.version == document["version"]
        assert found.program_id == document["program_id"]
        assert found.error.type == (document["error"] or {}).get("type", "")
        assert found.error_message == (document["error_message"] or "")
        assert found.executed_at.seconds > 1_700_000_000
        assert found.latency.total == found.latency_ms > 0
        recorded = (await stage.system.http.get(f"/api/v1/executions/{found.id}")).json()
        assert (recorded["input"], recorded["status"]) == (json.loads(value), found.status)
        return
    found = await calling.refusal(call)
    assert found.status == status.STATUS[answer.status_code].name
    assert (found.code, found.detail) == (document["code"], document["detail"])
    assert found.metadata["http_status"] == str(answer.status_code)
    wanted = [(each["path"], each["message"]) for each in document.get("errors", ())]
    assert found.fields == wanted


@pytest.mark.parametrize("value", [b"", b"1}", b'1,"version":7', b"nan", b'"\xff"', b"[" * 10_000])
async def test_an_input_is_one_json_document(caller, value):
    """Nothing that is not is taken, or can say more than an input."""
    found = await calling.refusal(caller.execute("upper", value))
    assert found.status == "INVALID_ARGUMENT"
    assert found.code in {"MALFORMED_JSON", "INVALID_INPUT"}


@pytest.mark.parametrize("name", ["", "a/b", "/", "a/execute"])
async def test_a_name_that_no_path_can_have_is_refused_by_its_field(caller, name):
    """It leads to no other route."""
    found = await calling.refusal(caller.execute(name))
    assert (found.status, found.code) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert found.fields[0][0] == "/task"


async def test_who_does_not_wait_gets_the_id(stage, caller):
    """`wait_s` 0 is the 202 of HTTP: stored, to be looked up."""
    found = await caller.execute(wait_s=0)
    assert (found.status, found.output) == ("queued", b"")
    answer = await stage.system.http.get(f"/api/v1/executions/{found.id}?wait=10")
    assert answer.json()["output"] == "A"


async def test_duplicates_over_both_are_one_execution(stage, caller):
    """Of forty calls with one key, half over each, one is run; another body is refused."""
    key = str(uuid.uuid4())
    body = b'{"input":"once","routing_key":"r"}'
    headers = {"Idempotency-Key": key}
    http = [
        stage.system.http.post("/api/v1/tasks/upper/execute", content=body, headers=headers)
        for _ in range(20)
    ]
    rpc = [caller.execute(value=b'"once"', routing_key="r", idempotency_key=key) for _ in range(20)]
    answers, found = await asyncio.gather(asyncio.gather(*http), asyncio.gather(*rpc))
    assert len({each.json()["id"] for each in answers} | {each.id for each in found}) == 1
    again = caller.execute(value=b'"once"', routing_key="r", idempotency_key=key)
    assert (await again).output == b'"ONCE"'
    assert dict(await again.trailing_metadata())["idempotent-replayed"] == "true"
    other = await calling.refusal(caller.execute(value=b'"two"', idempotency_key=key))
    assert (other.status, other.code) == ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED")


async def test_the_deadline_of_a_call_is_that_of_the_execution(stage, caller):
    """Nobody is there to be told after it: the program is ended, and nothing waits."""
    call = caller.execute("slow", deadline_s=0.4)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: stage.system.services.dispatcher.waiting == 0)
    queued = caller.execute("slow", deadline_s=0.5, wait_s=0)
    found = (await queued).id
    answer = await stage.system.http.get(f"/api/v1/executions/{found}?wait=10")
    assert answer.json()["status"] == "timeout"
    assert answer.json()["latency"]["total"] < 5_000


async def test_a_timeout_of_the_call_is_told_with_the_execution(caller):
    """`timeout_ms` without a deadline ends as over HTTP: a record, or the id to look up."""
    call = caller.execute("slow", timeout_ms=200)
    if await call.code() is grpc.StatusCode.OK:
        assert (await call).status == "timeout"
        return
    found = await calling.refusal(call)
    assert (found.status, found.code) == ("DEADLINE_EXCEEDED", "DEADLINE_PASSED")
    assert uuid.UUID(found.metadata["execution_id"])


async def test_a_cancelled_call_is_forgotten(stage, caller):
    """As a connection that is closed: nobody waits for it any more."""
    call = caller.execute("slow", timeout_ms=60_000)
    await until(lambda: stage.system.services.dispatcher.waiting == 1)
    call.cancel()
    await until(lambda: stage.system.services.dispatcher.waiting == 0)


async def test_a_trace_is_taken_up(caller):
    """`traceparent` in the metadata is that of the execution, and of an error."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    metadata = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert (await caller.execute(metadata=metadata)).trace_id == trace
    refused = await calling.refusal(caller.execute("none", metadata=metadata))
    assert refused.metadata["trace_id"] == trace
    other = await calling.refusal(caller.execute(metadata={"x-api-version": "9"}))
    assert other.code == "UNSUPPORTED_VERSION"


@pytest.mark.parametrize("method", calling.METHODS)
async def test_hostile_bytes_are_refused_and_nothing_more(caller, method):
    """Whatever comes, each call ends with a status of ours, and the next one is served."""
    chance = random.Random(7)  # noqa: S311 (the same bytes each time)
    seen = set()
    for size in (0, 1, 2, 3, 5, 8, 40, 200, 3000):
        for _ in range(6):
            call = caller.raw(method, chance.randbytes(size))
            code = await call.code()
            seen.add(code)
            if code is not grpc.StatusCode.OK:
                await calling.refusal(call)
    assert seen <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    }
    assert grpc.StatusCode.INVALID_ARGUMENT in seen
    assert (await caller.execute()).output == b'"A"'


async def test_a_message_beyond_the_limit_is_not_read(stage, caller):
    """A little too much is told by us, and much more than that by gRPC, unread."""
    most = stage.system.settings.body_bytes_max
    for size in (most - 5, most + server.SPARE_BYTES // 2):
        found = await calling.refusal(caller.execute(value=b'"%b"' % (b"a" * size)))
        assert found.code == "BODY_TOO_LARGE"
    call = caller.execute(value=b'"%b"' % (b"a" * (most + server.SPARE_BYTES)))
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await caller.execute()).output == b'"A"'


async def test_there_is_room_for_many_calls_of_one_connection(caller):
    """More than a connection may have at once wait at the client; none is lost."""
    count = server.STREAMS_MAX + 300
    found = await asyncio.gather(*[caller.execute(value=b'"%d"' % n) for n in range(count)])
    assert [each.output for each in found] == [b'"%d"' % n for n in range(count)]


async def test_a_method_that_is_not_there(caller):
    """UNIMPLEMENTED, which tells a client to go elsewhere."""
    assert await caller.raw("Nothing", b"").code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("code", errors.CODES)
async def test_every_code_has_a_status_and_its_details(code):
    """Each error of HTTP is one here, with its code as the reason."""
    error = errors.ApiError(code, "why", execution_id="x", retry_after_s=3)
    found = status.of_error(error, "t" * 32)
    assert found.code is status.STATUS[errors.CODES[code].status]
    assert found.code not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}
    (key, value), *_ = found.metadata
    assert key == status.DETAILS_KEY
    assert code.encode() in value


async def test_a_long_error_fits_into_metadata():
    """A client takes 8 KiB of metadata by default, and would tell nothing of ours beyond."""
    fields = tuple(errors.FieldError(f"/input/{n}", "é" * 100) for n in range(200))
    found = status.of_error(errors.ApiError("INVALID_INPUT", "é" * 5_000, errors=fields), "t" * 32)
    ((_, details),) = found.metadata
    percent_encoded = 3 * len(found.detail.encode())
    assert percent_encoded + len(details) * 4 / 3 < 7_500
    assert found.detail.endswith("…")
    assert b"/input/3" in details
