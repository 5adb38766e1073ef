"""Refusals that no resource is to blame for: paths, methods, headers, and the unforeseen."""

import asyncio
import contextlib

import httpx
import msgspec

from streams import ids
from tests.integration.ingress.problems import problem
from tests.system import System

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
UNKNOWN = [
    "/",
    "/api",
    "/api/v1",
    "/api/v1/",
    "/api/v2/tasks",
    "/api/v1/nope",
    "/api/v1/tasks/",
    "/api/v1/tasks/upper/",
    "/api/v1/tasks/upper/nope",
    "/api/v1/tasks/upper/artifacts/1/nope",
    "/health/nope",
    "/metrics/",
    "//api/v1/tasks",
    "/api/v1//tasks",
    "/%00",
    "/" + "a" * 10_000,
]
ALLOWED = {
    "/api/v1/tasks": "GET, HEAD, POST",
    "/api/v1/tasks/execute": "POST",
    "/api/v1/tasks/upper": "DELETE, GET, HEAD, PATCH",
    "/api/v1/tasks/upper/artifacts": "GET, HEAD, POST",
    "/api/v1/tasks/upper/artifacts/1/activate": "POST",
    "/api/v1/batch/execute": "POST",
    "/health": "GET, HEAD",
}


def _parent(trace_id: str) -> str:
    return f"00-{trace_id}-00f067aa0ba902b7-01"


async def _raw(front: System, request: bytes) -> bytes:
    """The answer to *request* as bytes on a connection of its own."""
    url = httpx.URL(str(front.http.base_url))
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


async def test_unknown_paths_are_problems(front: System) -> None:
    """Every path that leads nowhere says so in the one form that errors have."""
    for path in UNKNOWN:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            url = f"{str(front.http.base_url).rstrip('/')}{path}"
            problem(await front.http.request(method, url), "NOT_FOUND")


async def test_a_wrong_method_is_told_the_right_ones(front: System) -> None:
    """405 names all methods of the path (RFC 9110, section 15.5.6)."""
    for path, methods in ALLOWED.items():
        for method in ("PUT", "OPTIONS", "PROPFIND"):
            answer = await front.http.request(method, path)
            document = problem(answer, "METHOD_NOT_ALLOWED")
            assert answer.headers["allow"] == methods, path
            assert document["detail"] == f"{method}: expected {methods}"


async def test_the_trace_id_of_the_caller_is_kept(system: System) -> None:
    """A valid traceparent (W3C Trace Context) is found again in problem, answer and audit."""
    await system.create()
    headers = {"traceparent": _parent(TRACE)}
    document = problem(await system.http.get("/nope", headers=headers), "NOT_FOUND")
    assert document["detail"] == "no path '/nope'; /openapi.json has them all"
    assert document["trace_id"] == TRACE
    answer = await system.http.post(
        "/api/v1/tasks/upper/execute", json={"input": "a"}, headers=headers
    )
    assert answer.json()["trace_id"] == TRACE
    found = await system.http.get(f"/api/v1/executions/{answer.json()['id']}")
    assert found.json()["trace_id"] == TRACE


async def test_a_trace_id_that_is_none_is_replaced(front: System) -> None:
    """What is no trace id does not get into logs and records as one."""
    for parent in (
        "",
        "00",
        _parent("0" * 32),
        _parent(TRACE.upper()),
        _parent("g" * 32),
        _parent("é" * 32),
        _parent("{}" * 16),
    ):
        answer = await front.http.get("/nope", headers={"traceparent": parent.encode("latin-1")})
        trace_id = problem(answer, "NOT_FOUND")["trace_id"]
        assert trace_id not in parent
        int(trace_id, 16)


async def test_every_request_has_a_trace_id_of_its_own(front: System) -> None:
    """Two problems can be told apart in the log."""
    first, second = [(await front.http.get("/nope")).json()["trace_id"] for _ in range(2)]
    assert first != second


async def test_what_nobody_foresaw_is_an_internal_error_without_details(front: System) -> None:
    """A value of another make in the store is a 500 that tells only where to look."""
    name = ids.new()
    await front.bus.jetstream.publish(f"$KV.operations.{name}", b'{"secret": "hunter2"}')
    answer = await front.http.get(f"/api/v1/operations/{name}")
    document = problem(answer, "INTERNAL")
    assert "hunter2" not in answer.text
    assert "trace id" in document["detail"]


async def test_headers_of_absurd_values_are_refused_or_ignored(front: System) -> None:
    """Thousands of digits, words and bytes beyond ASCII in headers never end in a 500."""
    await front.create()
    for headers, query, status in (
        ({"Prefer": "respond-async, wait=" + "9" * 5000}, "", 200),
        ({"Prefer": "respond-async, wait=" + "0" * 5000}, "", 202),
        ({"Prefer": "RESPOND-ASYNC"}, "", 202),
        ({"Prefer": "handling=strict; x, respond-async;foo"}, "", 202),
        ({"Prefer": "é\xff"}, "?wait=0", 202),
        ({}, "?wait=0&wait=0", 202),
        ({}, "?wait=-1", 400),
        ({}, "?wait=301", 400),
        ({}, "?wait=nan", 400),
        ({}, "?wait=%00", 400),
        ({}, "?wait=" + "9" * 5000, 400),
        ({"Prefer": "respond-async, wait=10"}, "?wait=0", 202),
    ):
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = await front.http.post(
            f"/api/v1/tasks/upper/execute{query}", json={"input": "a", "timeout_ms": 1}, headers=raw
        )
        if status == 200:  # it waits, and nobody works
            problem(answer, "DEADLINE_PASSED")
        elif status == 400:
            problem(answer, "INVALID_QUERY")
        else:
            assert answer.status_code == status, (headers, query, answer.text)


async def test_broken_http_does_not_break_the_server(front: System) -> None:
    """Requests that are no HTTP are refused, and the next caller is served."""
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /api/v1/t\xc3\xa4sks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/tasks/\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        answer = await _raw(front, request)
        assert not answer.startswith(b"HTTP/1.1 5"), (request[:80], answer[:200])
    assert (await front.http.get("/health/live")).status_code == 200


async def test_a_caller_that_hangs_up_is_no_error_of_ours(front: System) -> None:
    """An upload broken off is counted as 499, so that nobody is woken for it."""
    url = httpx.URL(str(front.http.base_url))
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    line = 'loopai_http_requests_total{method="POST",route="tasks.create",status="499"} 1.0'
    async with asyncio.timeout(10):
        while line not in (await front.http.get("/metrics")).text:
            pass
    assert 'status="500"' not in (await front.http.get("/metrics")).text


async def test_every_answer_tells_the_version_of_the_api(front: System) -> None:
    """Good or bad, answers carry X-Api-Version."""
    for path in ("/health", "/api/v1/tasks", "/nope", "/api/v1/tasks/nope"):
        assert (await front.http.get(path)).headers["x-api-version"] == "1"


async def test_head_is_answered_like_get_without_a_body(front: System) -> None:
    """Probes and caches ask with HEAD."""
    await front.create()
    for path in ("/health/ready", "/api/v1/tasks/upper", "/api/v1/tasks/upper/artifacts/1/program"):
        answer = await front.http.head(path)
        assert answer.status_code == 200
        assert answer.content == b""


async def test_rubbish_in_the_audit_hides_no_execution(system: System) -> None:
    """Whoever may publish may publish rubbish; lookups pass over it."""
    await system.create()
    before = (await system.execute("a")).json()["id"]
    for subject in ("record.default.upper", "dead.EXECUTE.default.upper"):
        for payload in (b"rubbish", b"", msgspec.msgpack.encode({"records": 1})):
            await system.bus.jetstream.publish(f"loopai.v1.{subject}", payload)
    after = (await system.execute("b")).json()["id"]
    for each in (before, after):
        answer = await system.http.get(f"/api/v1/executions/{each}")
        assert answer.json()["status"] == "success", answer.text
    problem(await system.http.get(f"/api/v1/executions/{ids.new()}"), "EXECUTION_NOT_FOUND")
