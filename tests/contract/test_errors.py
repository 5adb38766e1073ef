"""Every code of `loopai.errors` is provoked over HTTP, and looks as docs/reference/errors.md says.

A new code needs an entry in PROVOKED: a function of a System that gets its answer. Those at the end
of a stream or in an operation, whose request is a 200, stand in INSIDE.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from loopai import errors
from loopai.catalog import keys
from loopai.embedded.broker import Broker
from loopai.ingress import app, idempotency, kept, patience, problems
from loopai.webhooks import signature, subscriptions
from streams import codec, connection, ids, messages, provision, store, subjects, topology
from tests import issuer
from tests.system import UPPER, System
from tests.wait import until
from workers import executor, generator

TASK = "/api/v1/tasks/upper"
LINES = {"Content-Type": "application/x-ndjson"}
BATCH = "/api/v1/batch/execute?task_id=upper"
HOOK: dict[str, Any] = {"url": "https://example.com/hook", "events": ["artifact.activated"]}
WHEN = datetime(2026, 1, 2, tzinfo=UTC)
Provoke = Callable[[System], Awaitable[httpx.Response]]


@pytest.fixture
async def stage(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """An ingress of little patience with the task `upper`, and without workers."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack,
            broker,
            bus,
            tmp_path / "data",
            pools=(),
            receive_s=1,
            batch_idle_s=1,
            waiting_max=1,
            admit_ms_max=1_000,
        )
        await system.create()
        yield system


def asked(method: str, path: str, **given: Any) -> Provoke:
    """What answers to one request."""

    async def ask(stage: System) -> httpx.Response:
        return await stage.http.request(method, path, **given)

    return ask


async def _said(stage: System, *parts: bytes) -> httpx.Response:
    """What answers to bytes that no client of HTTP would send."""
    url = stage.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.writelines(parts)
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            length = next(int(v) for k, v in headers.items() if k.lower() == "content-length")
            body = await reader.readexactly(length)
    finally:
        writer.close()
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


async def _malformed_request(stage: System) -> httpx.Response:
    return await _said(stage, b"\x16\x03\x01\r\n\r\n")


async def _headers_too_large(stage: System) -> httpx.Response:
    return await stage.http.get("/health", headers={"X-A": "a" * patience.HEAD_BYTES_MAX})


async def _request_timeout(stage: System) -> httpx.Response:
    return await _said(stage, b"POST /api/v1/tasks HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")


async def _conflict(stage: System) -> httpx.Response:
    """Of several who delete one task at once one finds that another was faster."""
    for number in range(100):
        name = f"short-lived-{number}"
        (await stage.http.post("/api/v1/tasks", json={"name": name})).raise_for_status()
        deleting = [stage.http.delete(f"/api/v1/tasks/{name}") for _ in range(8)]
        for answer in await asyncio.gather(*deleting):
            if answer.status_code == 409:
                return answer
    raise AssertionError("nobody was in anybody's way")


async def _no_active_version(stage: System) -> httpx.Response:
    await stage.http.post("/api/v1/tasks", json={"name": "bare"})
    return await stage.execute("a", "bare")


async def _not_activatable(stage: System) -> httpx.Response:
    task = (await stage.http.get(TASK)).json()
    draft = await stage.store(task["id"], UPPER, activate=False, status="draft")
    return await stage.http.post(f"{TASK}/artifacts/{draft.version}/activate")


async def _execution_ended(stage: System) -> httpx.Response:
    await stage.start_pool(executor)
    ended = (await stage.execute("a")).raise_for_status().json()
    return await stage.http.delete(f"/api/v1/executions/{ended['id']}")


async def _backlog_full(stage: System) -> httpx.Response:
    await provision.apply(stage.bus, topology.topology(execute_backlog_max=1))
    for _ in range(10):
        answer = await stage.http.post(f"{TASK}/execute?wait=0", json={"input": "a"})
        if answer.status_code != 202:
            return answer
    raise AssertionError("there was always room")


async def _overloaded(stage: System) -> httpx.Response:
    waiting = asyncio.create_task(stage.execute("a", timeout_ms=60_000))
    await until(lambda: stage.services.dispatcher.waiting == 1)
    answer = await stage.execute("b")
    waiting.cancel()
    return answer


async def _unavailable(stage: System) -> httpx.Response:
    stage.broker.kill()
    return await stage.http.get("/api/v1/tasks/nobody")


async def _internal(stage: System) -> httpx.Response:
    """A value of another make in the store, which nothing of ours would write."""
    name = ids.new()
    await stage.bus.jetstream.publish(f"$KV.operations.{name}", b'{"secret": "hunter2"}')
    return await stage.http.get(f"/api/v1/operations/{name}")


async def _program_damaged(stage: System) -> httpx.Response:
    artifact = (await stage.http.get(f"{TASK}/artifacts")).json()["artifacts"][0]
    texts = Path(stage.settings.data_dir) / "artifacts" / "by-digest"
    path = texts / artifact["digest"][:2] / artifact["digest"]
    path.unlink()
    path.write_text("another text")
    async with contextlib.AsyncExitStack() as stack:
        # One that has not read the text before.
        other = await System.started(
            stack, stage.broker, stage.bus, Path(stage.settings.data_dir), pools=()
        )
        return await other.http.get(f"{TASK}/artifacts/1/program")


async def _store_unavailable(stage: System) -> httpx.Response:
    await stage.start_pool(executor, admit_ms_max=30_000)
    folder = Path(stage.settings.data_dir) / "artifacts"
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")
    code = UPPER.replace("upper", "lower")
    return await stage.http.post(f"{TASK}/artifacts", json={"code": code})


async def _beside(
    stage: System, method: str, path: str, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """What another ingress answers, with settings of its own, the second time."""
    async with contextlib.AsyncExitStack() as stack:
        other = await System.started(
            stack, stage.broker, stage.bus, Path(stage.settings.data_dir), pools=(), **fields
        )
        await other.http.request(method, path, headers=headers)
        return await other.http.request(method, path, headers=headers)


async def _unauthenticated(stage: System) -> httpx.Response:
    return await _beside(stage, "GET", TASK, auth="required")


async def _forbidden(stage: System) -> httpx.Response:
    _, key = await stage.services.keys.create(
        tenant="default", name="runs", scopes=("execute",), created_by="test", now=WHEN
    )
    return await _beside(stage, "GET", TASK, {"X-Api-Key": key}, auth="required")


async def _issuer_unavailable(stage: System) -> httpx.Response:
    async with issuer.issuing() as away:
        away.answers = False
        headers = {"Authorization": f"Bearer {away.token()}"}
        fields = {"jwt_issuer": away.url, "jwt_audience": issuer.AUDIENCE}
        return await _beside(stage, "GET", TASK, headers, **fields)


async def _rate_limited(stage: System) -> httpx.Response:
    return await _beside(stage, "GET", TASK, rate_limit="1/minute")


async def _too_many_keys(stage: System) -> httpx.Response:
    bucket = store.Bucket(stage.bus, topology.KEYS, codec.KEY)
    for number in range(keys.KEYS_MAX):
        key = messages.ApiKey(
            id=ids.new(),
            tenant="default",
            name=f"key-{number}",
            scopes=("execute",),
            hash=f"{number:064x}",
            last4="x-_9",
            created_at=WHEN,
            created_by="test",
        )
        await bucket.put(key.hash, key)
    return await stage.http.post("/api/v1/keys", json={"name": "more", "scopes": ["execute"]})


async def _too_many_webhooks(stage: System) -> httpx.Response:
    bucket = store.Bucket(stage.bus, topology.SUBSCRIPTIONS, codec.WEBHOOK)
    for _ in range(subscriptions.WEBHOOKS_MAX):
        webhook = messages.Webhook(
            id=ids.new(),
            tenant="default",
            url="https://example.com/hook",
            events=("artifact.activated",),
            secret=signature.new_secret(),
            since=WHEN,
            created_at=WHEN,
            updated_at=WHEN,
        )
        await bucket.put(subjects.webhook_key("default", webhook.id), webhook)
    return await stage.http.post("/api/v1/webhooks", json=HOOK)


async def _hook(stage: System, path: str, **fields: Any) -> httpx.Response:
    """What answers to a POST to *path* below a webhook with *fields*."""
    made = await stage.http.post("/api/v1/webhooks", json=HOOK | fields)
    return await stage.http.post(f"{made.raise_for_status().headers['location']}/{path}")


async def _webhook_disabled(stage: System) -> httpx.Response:
    return await _hook(stage, "ping", enabled=False)


async def _delivery_not_found(stage: System) -> httpx.Response:
    return await _hook(stage, f"deliveries/{ids.new()}/redeliver")


async def _key_in_use(stage: System) -> httpx.Response:
    """Another ingress holds the key; this one has less patience than those that we ship."""
    scope = {"method": "POST", "path": "/api/v1/tasks", "query_string": b""}
    keyed = idempotency.keyed(scope, "a", b"")
    claim = messages.IdempotencyClaim(
        fingerprint=keyed.fingerprint, tenant="default", claimed_at=WHEN
    )
    await stage.services.claims.create(keyed.name, claim)
    impatient = Starlette(
        routes=[Mount("/", kept.Kept(stage.app, stage.services, wait_max_s=0.5))],
        middleware=[Middleware(app.Observe, stage.services.metrics)],
        exception_handlers={errors.ApiError: problems.handle},
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(impatient), base_url="http://test"
    ) as http:
        return await http.post("/api/v1/tasks", headers={"Idempotency-Key": "a"})


async def _answer_not_kept(stage: System) -> httpx.Response:
    """A key of the API, which is shown once."""
    for _ in range(2):
        answer = await stage.http.post(
            "/api/v1/keys",
            json={"name": "shown", "scopes": ["execute"]},
            headers={"Idempotency-Key": "a"},
        )
    return answer


async def _key_reused(stage: System) -> httpx.Response:
    headers = {"Idempotency-Key": "a"}
    await stage.http.post("/api/v1/tasks", json={"name": "one"}, headers=headers)
    return await stage.http.post("/api/v1/tasks", json={"name": "two"}, headers=headers)


PROVOKED: dict[str, Provoke] = {
    "MALFORMED_JSON": asked("POST", f"{TASK}/execute", content=b"{"),
    "INVALID_QUERY": asked("GET", f"/api/v1/executions/{ids.new()}", params={"wait": "soon"}),
    "UNSUPPORTED_VERSION": asked("GET", "/api/v1/tasks", headers={"X-Api-Version": "2"}),
    "MALFORMED_REQUEST": _malformed_request,
    "NOT_FOUND": asked("GET", "/api/v1/nope"),
    "TASK_NOT_FOUND": asked("GET", "/api/v1/tasks/nobody"),
    "ARTIFACT_NOT_FOUND": asked("GET", f"{TASK}/artifacts/9"),
    "EXECUTION_NOT_FOUND": asked("GET", f"/api/v1/executions/{ids.new()}"),
    "OPERATION_NOT_FOUND": asked("GET", f"/api/v1/operations/{ids.new()}"),
    "METHOD_NOT_ALLOWED": asked("PUT", TASK),
    "NOT_ACCEPTABLE": asked("GET", TASK, headers={"Accept": "image/png"}),
    "REQUEST_TIMEOUT": _request_timeout,
    "TASK_ALREADY_EXISTS": asked("POST", "/api/v1/tasks", json={"name": "upper"}),
    "NO_ACTIVE_VERSION": _no_active_version,
    "NO_PREVIOUS_VERSION": asked("POST", f"{TASK}/rollout/rollback"),
    "NO_CANARY": asked("POST", f"{TASK}/rollout/promote"),
    "ARTIFACT_NOT_ACTIVATABLE": _not_activatable,
    "EXECUTION_ENDED": _execution_ended,
    "CONFLICT": _conflict,
    "PRECONDITION_FAILED": asked("PATCH", TASK, json={}, headers={"If-Match": '"99999"'}),
    "BODY_TOO_LARGE": asked("POST", "/api/v1/tasks", content=b" " * (1024 * 1024 + 1)),
    "UNSUPPORTED_MEDIA_TYPE": asked(
        "POST", "/api/v1/tasks", content=b"<a/>", headers={"Content-Type": "text/xml"}
    ),
    "HEADERS_TOO_LARGE": _headers_too_large,
    "INVALID_REQUEST": asked("POST", "/api/v1/tasks", json={"nom": "upper"}),
    "INVALID_INPUT": asked("POST", f"{TASK}/execute", json={"input": 7}),
    "INVALID_PROGRAM": asked("POST", f"{TASK}/artifacts", json={"code": "def run(:"}),
    "IDEMPOTENCY_KEY_REUSED": _key_reused,
    "IDEMPOTENCY_KEY_IN_USE": _key_in_use,
    "ANSWER_NOT_KEPT": _answer_not_kept,
    "UNAUTHENTICATED": _unauthenticated,
    "FORBIDDEN": _forbidden,
    "ISSUER_UNAVAILABLE": _issuer_unavailable,
    "RATE_LIMITED": _rate_limited,
    "TOO_MANY_KEYS": _too_many_keys,
    "TOO_MANY_WEBHOOKS": _too_many_webhooks,
    "WEBHOOK_DISABLED": _webhook_disabled,
    "DELIVERY_NOT_FOUND": _delivery_not_found,
    "KEY_NOT_FOUND": asked("DELETE", f"/api/v1/keys/{ids.new()}"),
    "WEBHOOK_NOT_FOUND": asked("GET", f"/api/v1/webhooks/{ids.new()}"),
    "INTERNAL": _internal,
    "BACKLOG_FULL": _backlog_full,
    "OVERLOADED": _overloaded,
    "UNAVAILABLE": _unavailable,
    "RUNTIME_UNAVAILABLE": asked("POST", f"{TASK}/artifacts", json={"code": UPPER}),
    "DEADLINE_PASSED": asked("POST", f"{TASK}/execute", json={"input": "a", "timeout_ms": 1}),
    "PROGRAM_DAMAGED": _program_damaged,
    "STORE_UNAVAILABLE": _store_unavailable,
}


async def _last_line(stage: System, lines: bytes, count: int, end: bytes) -> dict[str, Any]:
    """The problem in the last line of the answer to *count* times *lines* and *end*.

    Nothing is read before all of it is written.
    """
    url = stage.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    try:
        head = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        writer.write(head.encode() + b"Content-Type: application/x-ndjson\r\n\r\n")
        async with asyncio.timeout(60):
            for _ in range(count):
                writer.write(b"%x\r\n%s\r\n" % (len(lines), lines))
                await writer.drain()
            writer.write(end)
            tail = b""
            while b'"problem"' not in tail:
                piece = await reader.read(65_536)
                assert piece, tail
                tail = tail[-1_000:] + piece
    finally:
        writer.close()
    last = tail[tail.index(b'{"summary"') :].splitlines()[0]
    problem: dict[str, Any] = json.loads(last)["problem"]
    return problem


async def _input_idle(stage: System) -> dict[str, Any]:
    """No line comes for a second, and none is on its way."""
    return await _last_line(stage, b"\n", 1, b"")


async def _results_unread(stage: System) -> dict[str, Any]:
    """30 MB, more than any socket takes, and as much in results, before one of them is read."""
    line = json.dumps({"input": 7, "id": "a" * 1000}).encode() + b"\n"
    return await _last_line(stage, line * 300, 100, b"")


async def _too_few_examples(stage: System) -> dict[str, Any]:
    await stage.start_pool(generator)
    answer = await stage.http.post(f"{TASK}/generate", params={"wait": "60"})
    problem: dict[str, Any] = answer.json()["error"]
    return problem


INSIDE: dict[str, Callable[[System], Awaitable[dict[str, Any]]]] = {
    "INPUT_IDLE": _input_idle,
    "RESULTS_UNREAD": _results_unread,
    "TOO_FEW_EXAMPLES": _too_few_examples,
}


def test_every_code_is_provoked() -> None:
    """Who adds a code adds how it comes about; who takes one away takes that, too."""
    assert PROVOKED.keys() | INSIDE.keys() == errors.CODES.keys()
    assert not PROVOKED.keys() & INSIDE.keys()


@pytest.mark.parametrize("code", PROVOKED)
async def test_an_error_has_the_documented_form(stage: System, code: str) -> None:
    """A problem document (RFC 9457) with its status, title and trace id, and when to come again."""
    answer = await PROVOKED[code](stage)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-api-version"] == "1"
    document = answer.json()
    status, title = errors.CODES[code][:2]
    assert document["code"] == code, document
    assert document["status"] == answer.status_code == status
    assert document["title"] == title
    assert document["type"] == f"urn:loopai:error:{code}"
    assert document["detail"]
    assert "hunter2" not in answer.text
    int(document["trace_id"], 16)
    assert len(document["trace_id"]) == 32
    for each in document.get("errors", ()):
        assert each.keys() == {"path", "message"}
        assert each["path"] == "" or each["path"].startswith("/")
    if status in {429, 503}:
        assert int(answer.headers["retry-after"]) >= 1
    if status in {401, 403}:
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("code", INSIDE)
async def test_an_error_inside_an_answer_has_the_documented_form(stage: System, code: str) -> None:
    """Where the request was well and what it began was not: a code and a sentence."""
    found = await INSIDE[code](stage)
    assert found.keys() == {"code", "message"}
    assert found["code"] == code
    assert found["message"]
