"""Every POST but an execution, with an idempotency key: done once, and answered each time."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from loopai import errors
from loopai.ingress import idempotency, identity, kept
from streams import codec, replay, store, topology
from streams.connection import Connection
from streams.messages import IdempotencyClaim, KeptAnswer
from tests.integration.ingress.problems import problem
from tests.system import UPPER, System
from tests.wait import until
from workers import executor

TASKS = "/api/v1/tasks"
BATCH = "/api/v1/batch/execute"
REPLAYED = "idempotent-replayed"


def claims(bus: Connection) -> store.Bucket[IdempotencyClaim]:
    return store.Bucket(bus, topology.IDEMPOTENCY, codec.IDEMPOTENCY)


async def post(system: System, key: str, path: str, body: Any = None) -> httpx.Response:
    content = b"" if body is None else msgspec.json.encode(body)
    return await system.http.post(path, content=content, headers={"Idempotency-Key": key})


def keyed(key: str, path: str, body: Any) -> idempotency.Keyed:
    scope = {"method": "POST", "path": path, "query_string": b"", "headers": []}
    return idempotency.keyed(scope, key, msgspec.json.encode(body))


def caller(app: kept.Kept) -> httpx.AsyncClient:
    """Calls *app* itself, with a handler of the test's behind it."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def count(system: System) -> int:
    return len([r async for r in replay.records(system.bus, tenant="default")])


async def test_a_task_is_created_once(front: System) -> None:
    """201 both times, with the same body, Location and ETag."""
    first = await post(front, "k", TASKS, {"name": "one"})
    second = await post(front, "k", TASKS, {"name": "one"})
    assert first.status_code == second.status_code == 201
    assert second.content == first.content
    for name in ("location", "etag", "content-type", "x-api-version"):
        assert second.headers[name] == first.headers[name]
    assert (REPLAYED in first.headers, second.headers[REPLAYED]) == (False, "true")


async def test_a_hundred_at_once_upload_one_version(
    front: System, other: System, worker: None
) -> None:
    """Over two ingresses; each is answered, one of them first."""
    await front.http.post(TASKS, json={"name": "upper"})
    path, body = f"{TASKS}/upper/artifacts", {"code": UPPER, "language": "python"}
    answers = await asyncio.gather(
        *(post((front, other)[number % 2], "k", path, body) for number in range(100))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    versions = (await front.http.get(path)).json()["artifacts"]
    assert [each["version"] for each in versions] == [1]


async def test_actions_and_generations_happen_once(system: System) -> None:
    """A second rollback would go further back, a second generation make another version."""
    task = await system.create()
    for _ in range(2):
        await system.store(task["id"], UPPER)
    path = f"{TASKS}/upper/rollout/rollback"
    for _ in range(2):
        assert (await post(system, "back", path)).json()["active"] == 2
    path = f"{TASKS}/upper/generate"
    operations = {(await post(system, "make", path, {})).json()["id"] for _ in range(2)}
    assert len(operations) == 1


async def test_a_batch_runs_once(system: System) -> None:
    """As JSON and as lines; the results are those of the first time."""
    await system.create()
    body = {"task_id": "upper", "items": [{"input": value} for value in "abc"]}
    first, second = [await post(system, "json", BATCH, body) for _ in range(2)]
    assert second.content == first.content
    assert await count(system) == 3
    lines = b'{"input":"d"}\n{"input":"e"}\n'
    headers = {"Idempotency-Key": "lines", "Content-Type": "application/x-ndjson"}
    answers = [
        await system.http.post(f"{BATCH}?task_id=upper", content=lines, headers=headers)
        for _ in range(2)
    ]
    assert answers[1].content == answers[0].content
    assert answers[1].headers["content-type"] == "application/x-ndjson"
    assert b'"output":"D"' in answers[0].content
    assert await count(system) == 5


async def test_a_batch_told_as_events_runs_once(system: System) -> None:
    """The repeat has the same events, summary and all; of too many it is told that it was done."""
    await system.create(code="def run(input):\n    return input * 1000\n")
    for key, count_of in (("few", 3), ("many", kept.ANSWER_BYTES_MAX // 100_000 + 1)):
        body = {"task_id": "upper", "items": [{"input": "x" * 100}] * count_of}
        content = msgspec.json.encode(body)
        headers = {"Idempotency-Key": key, "Accept": "text/event-stream"}
        first, second = [
            await system.http.post(BATCH, content=content, headers=headers) for _ in range(2)
        ]
        assert first.content.count(b"event: result\n") == count_of
        assert first.content.count(b"event: summary\n") == 1
        if key == "many":
            problem(second, "ANSWER_NOT_KEPT")
            continue
        assert second.content == first.content
        for name in ("content-type", "cache-control"):
            assert second.headers[name] == first.headers[name]
        assert second.headers[REPLAYED] == "true"
    assert await count(system) == 3 + count_of


async def test_another_tenants_key_is_another_key() -> None:
    """The claim's name holds the tenant, so no tenant can meet, or guess, a key of another."""
    scope = {"method": "POST", "path": TASKS, "query_string": b"", "headers": []}
    mine = idempotency.keyed(scope, "k", b"")
    scope[identity.SCOPE_KEY] = identity.Identity(tenant="other", name="api")
    theirs = idempotency.keyed(scope, "k", b"")
    assert mine.fingerprint == theirs.fingerprint
    assert mine.name != theirs.name


@pytest.mark.parametrize(
    ("path", "body"), [(TASKS, {"name": "two"}), (BATCH, {"name": "one"})], ids=["body", "path"]
)
async def test_the_same_key_for_another_request_is_refused(
    front: System, path: str, body: Any
) -> None:
    """422, and nothing is made."""
    await post(front, "k", TASKS, {"name": "one"})
    problem(await post(front, "k", path, body), "IDEMPOTENCY_KEY_REUSED")
    names = [task["name"] for task in (await front.http.get(TASKS)).json()["tasks"]]
    assert names == ["one"]


async def test_a_refusal_frees_the_key(front: System) -> None:
    """Of a request that was mended, or that comes again when its cause is gone."""
    problem(await post(front, "k", TASKS, {"name": "a b"}), "INVALID_REQUEST")
    assert (await post(front, "k", TASKS, {"name": "ab"})).status_code == 201
    problem(await post(front, "l", f"{TASKS}/later/generate", {}), "TASK_NOT_FOUND")
    await front.http.post(TASKS, json={"name": "later"})
    assert (await post(front, "l", f"{TASKS}/later/generate", {})).status_code == 202


async def test_a_failure_is_not_kept(front: System) -> None:
    """Without a worker an upload is a 503; with one the same key succeeds."""
    await front.http.post(TASKS, json={"name": "upper"})
    path, body = f"{TASKS}/upper/artifacts", {"code": UPPER, "language": "python"}
    problem(await post(front, "k", path, body), "RUNTIME_UNAVAILABLE")
    await front.start_pool(executor)
    assert (await post(front, "k", path, body)).status_code == 201


async def test_an_answer_that_is_too_large_is_given_once(system: System) -> None:
    """The batch ran; its second caller is told so, and it does not run again."""
    await system.create(code="def run(input):\n    return input * 1000\n")
    items = [{"input": "x" * 100} for _ in range(kept.ANSWER_BYTES_MAX // 100_000 + 1)]
    body = {"task_id": "upper", "items": items}
    first = await post(system, "k", BATCH, body)
    assert len(first.content) > kept.ANSWER_BYTES_MAX
    assert first.json()["succeeded"] == len(items)
    problem(await post(system, "k", BATCH, body), "ANSWER_NOT_KEPT")
    assert await count(system) == len(items)


async def test_an_answer_just_small_enough_is_kept(front: System) -> None:
    """Quotes and backslashes, which take most room where it lies, and not only ASCII."""
    text = '"\\é' * 150_000
    body = {"name": "one", "examples": [{"input": text, "output": 1}]}
    first = await post(front, "k", TASKS, body)
    assert first.status_code == 201, first.text[:200]
    second = await post(front, "k", TASKS, body)
    assert second.content == first.content
    assert second.headers[REPLAYED] == "true"


async def test_a_body_that_is_too_large_is_refused(front: System) -> None:
    """More than any POST may have is not read."""
    body = b" " * (front.settings.batch_bytes_max + 1)
    answer = await front.http.post(BATCH, content=body, headers={"Idempotency-Key": "k"})
    problem(answer, "BODY_TOO_LARGE")


async def test_a_claim_that_nobody_renews_passes_on(front: System) -> None:
    """Its ingress died while it handled the request: the next one waits, and does it."""
    body = {"name": "one"}
    claim = IdempotencyClaim(
        fingerprint=keyed("k", TASKS, body).fingerprint,
        tenant="default",
        claimed_at=datetime.now(UTC),
    )
    await claims(front.bus).create(keyed("k", TASKS, body).name, claim)
    started = asyncio.get_running_loop().time()
    answer = await post(front, "k", TASKS, body)
    assert answer.status_code == 201
    assert REPLAYED not in answer.headers
    assert asyncio.get_running_loop().time() - started >= kept.LEASE_S


async def test_a_claim_that_is_renewed_is_waited_for(front: System) -> None:
    """Longer than a lease; then its answer is everybody's."""
    body = {"name": "one"}
    mine, bucket = keyed("k", TASKS, body), claims(front.bus)
    claim = IdempotencyClaim(
        fingerprint=mine.fingerprint, tenant="default", claimed_at=datetime.now(UTC)
    )
    revision = await bucket.create(mine.name, claim)
    asking = asyncio.create_task(post(front, "k", TASKS, body))
    loop = asyncio.get_running_loop()
    ends = loop.time() + kept.LEASE_S + 1
    while loop.time() < ends:
        revision = await bucket.update(mine.name, claim, revision)
        await asyncio.wait({asking}, timeout=kept.RENEW_S)
        assert not asking.done()
    answer = KeptAnswer(status=201, headers={"location": "/there"}, body="theirs")
    await bucket.update(mine.name, msgspec.structs.replace(claim, answer=answer), revision)
    given = await asking
    assert (given.status_code, given.text, given.headers["location"]) == (201, "theirs", "/there")
    assert (await front.http.get(f"{TASKS}/one")).status_code == 404


async def test_a_claim_is_renewed_while_its_request_is_handled(
    front: System, other: System
) -> None:
    """A generation that is waited for outlasts the lease; a second caller waits with the first."""
    await front.create()
    path = f"{TASKS}/upper/generate?wait=8"
    first = asyncio.create_task(post(front, "k", path, {}))
    bucket = claims(front.bus)
    name = keyed("k", path.partition("?")[0], {}).name

    async def claimed() -> bool:
        return await bucket.get(name) is not None

    await until(claimed)
    second = await post(other, "k", f"{TASKS}/upper/generate?wait=1", {})
    assert second.content == (await first).content
    assert second.headers[REPLAYED] == "true"
    assert (await front.bus.jetstream.stream_info("GENERATE")).state.messages == 1


async def test_a_caller_who_leaves_finds_the_answer_later(system: System) -> None:
    """It hung up while its batch waited for a program: the batch went on."""
    await system.create(code="def run(input):\n    sum(range(10_000_000))\n    return input\n")
    body = {"task_id": "upper", "items": [{"input": "a"}]}
    asking = asyncio.create_task(post(system, "k", BATCH, body))
    bucket = claims(system.bus)

    async def claimed() -> bool:
        return await bucket.get(keyed("k", BATCH, body).name) is not None

    await until(claimed)
    asking.cancel()
    await asyncio.wait({asking})
    answer = await post(system, "k", BATCH, body)
    assert answer.json()["succeeded"] == 1
    assert await count(system) == 1


async def test_who_has_waited_long_enough_is_told_so(front: System) -> None:
    """Here, or because another ingress renews its claim: 409, and nothing is handled."""
    handled: list[str] = []
    unending = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        handled.append(scope["path"])
        await unending.wait()

    async with caller(kept.Kept(app, front.services, wait_max_s=0.5)) as here:
        first = asyncio.create_task(here.post(TASKS, headers={"Idempotency-Key": "k"}))
        await until(lambda: len(handled) == 1)
        async with caller(kept.Kept(app, front.services, wait_max_s=0.5)) as there:
            for each in (here, there):
                with pytest.raises(errors.ApiError) as caught:
                    await each.post(TASKS, headers={"Idempotency-Key": "k"})
                assert caught.value.code == "IDEMPOTENCY_KEY_IN_USE"
                assert caught.value.retry_after_s == int(kept.LEASE_S)
        assert len(handled) == 1
        first.cancel()
        await asyncio.wait({first})


async def test_what_nobody_foresaw_frees_the_key(front: System) -> None:
    """A handler that breaks has kept nothing: the next one is handled at once."""
    handlers = [_broken, Response("done", 201)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handlers.pop(0)(scope, receive, send)

    async with caller(kept.Kept(app, front.services)) as http:
        with pytest.raises(ZeroDivisionError):
            await http.post(TASKS, headers={"Idempotency-Key": "k"})
        answer = await http.post(TASKS, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.text) == (201, "done")
    assert REPLAYED not in answer.headers


async def _broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError
