"""The Python client over gRPC: the same answers and errors, and HTTP where there is no gRPC."""

import contextlib
import json
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import pytest
from loopai_client import errors, requests, rpc

from loopai.ingress.rpc.server import Server
from tests.integration.ingress.asking import key_for
from tests.system import System
from workers import executor, recorder

PICKY = "def run(input):\n    if input == 'bad':\n        raise ValueError(input)\n    return input"
CLIENT = Path(__file__).parents[2] / "clients" / "python"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
async def served(broker, bus, tmp_path):
    """The product with gRPC, and keys."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", (executor, recorder), auth="required"
        )
        _, headers = await key_for(system, "admin")
        system.http.headers.update(headers)
        await system.create()
        await system.create("picky", PICKY)
        server = Server(system.services, system.app)
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.stop, 1.0)
        system.grpc = f"127.0.0.1:{port}"
        system.key = headers["Authorization"].removeprefix("Bearer ")
        yield system


async def test_all_of_it_goes_over_grpc(served, opened):
    """With an URL where nobody is: executions, batches, generations and errors, as over HTTP."""
    client = await opened(NOWHERE, api_key=served.key, grpc=served.grpc, deadline_s=20)
    done = await client.execute("upper", "straße", version=1, routing_key="r")
    assert (done.status, done.output, done.version) == ("success", "STRASSE", 1)
    assert done.executed_at is not None
    assert done.latency is not None
    failed = await client.execute("picky", "bad")
    assert (failed.status, failed.output, failed.error.type) == ("error", None, "ValueError")
    assert (await client.execute("upper", "a", wait_s=0)).status == "queued"

    found = await client.batch.run("upper", [{"input": f"x{n}"} for n in range(600)])
    assert (found.total, found.succeeded) == (600, 600)
    assert [(each.id, each.output) for each in found.results] == [
        (str(n), f"X{n}") for n in range(600)
    ]
    streamed = [
        each.output
        async for each in client.batch.stream("upper", ({"input": n} for n in "abc"), window=2)
    ]
    assert streamed == ["A", "B", "C"]
    assert not (await client.generate("upper", timeout_s=0)).ended

    with pytest.raises(errors.NotFoundError) as missing:
        await client.execute("none", "a")
    assert (missing.value.code, missing.value.status) == ("TASK_NOT_FOUND", 404)
    assert len(missing.value.trace_id) == 32
    with pytest.raises(errors.InvalidRequestError) as invalid:
        await client.execute("upper", 7)
    assert invalid.value.errors[0].path == "/input"
    with pytest.raises(errors.BadRequestError) as large:
        await client.execute("upper", "a" * 1_048_577)
    assert large.value.extra == {"limit_bytes": 1_048_576}
    with pytest.raises(errors.AuthenticationError):
        await (await opened(NOWHERE, grpc=served.grpc)).execute("upper", "a")


async def test_a_key_is_one_execution_over_both(served, opened):
    """What was sent over gRPC and again over HTTP is done once: the fallback may do so."""
    key, input_ = uuid.uuid4().hex, {"b": [1, 2.5, None, "ü"], "a": 2**53}
    await served.create("same", "def run(input):\n    return 1\n", input_schema={})
    fields = {"timeout_ms": 9_000, "force_validation": False, "routing_key": "r"}
    over = await opened(NOWHERE, api_key=served.key, grpc=served.grpc)
    plain = await opened(served.http.base_url, api_key=served.key)
    first = await over.execute("same", input_, idempotency_key=key, **fields)
    assert (await plain.execute("same", input_, idempotency_key=key, **fields)).id == first.id


async def test_without_grpc_it_is_http(served, opened):
    """Nobody listens, or somebody who is no such server: quietly the same answer, once."""
    url = served.http.base_url
    for target in ("127.0.0.1:9", f"{url.host}:{url.port}"):
        client = await opened(url, api_key=served.key, grpc=target)
        for value in "ab":
            assert (await client.execute("upper", value)).output == value.upper()
    other = grpc.aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    client = await opened(url, api_key=served.key, grpc=f"127.0.0.1:{port}")
    assert (await client.execute("upper", "a")).output == "A"
    await other.stop(0)


async def test_a_server_that_goes_is_asked_over_http(served, opened):
    """A connection that was there and broke: the same key, over HTTP."""
    server = Server(served.services, served.app)
    port = await server.start("127.0.0.1", 0)
    target = f"127.0.0.1:{port}"
    client = await opened(served.http.base_url, api_key=served.key, grpc=target)
    assert (await client.execute("upper", "a")).output == "A"
    await server.stop(0)
    assert (await client.execute("upper", "b")).output == "B"


def test_without_the_extra_it_is_http():
    """The package does not need grpcio, and says nothing where it is not there."""
    program = """
import sys
sys.modules["grpc"] = None
import loopai_client
client = loopai_client.AsyncClient("http://127.0.0.1:9", grpc="127.0.0.1:9")
assert client._transport._rpc is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CLIENT)


def test_what_grpc_has_not_is_no_call():
    """Those requests go over HTTP, and so do bodies that only HTTP can refuse."""
    for method, path, body in (
        ("GET", "/api/v1/tasks", None),
        ("POST", "/api/v1/tasks", {"name": "a"}),
        ("POST", "/api/v1/batch/execute", {"task_id": "a", "items": [{"no": 1}]}),
        ("POST", "/api/v1/tasks/a/execute", {"input": 1, "version": 2**70}),
    ):
        asked = requests.request(method, path, body=requests.UNSET if body is None else body)
        assert rpc.call(asked) is None
    assert rpc.error(b"") is rpc.error(b"\xff\xff") is None


def test_a_name_with_odd_characters_is_itself():
    """What is quoted in a path is none in a message."""
    asked = requests.request("POST", requests.path("tasks", "a b/ü", "execute"), body={"input": 1})
    call = rpc.call(asked)
    assert call.messages[0].task == "a b/ü"
    assert json.loads(call.messages[0].input) == 1
