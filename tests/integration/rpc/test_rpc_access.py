"""Who may call what over gRPC, and how often."""

import pytest
import pytest_asyncio

from loopai.ingress.rpc import loopai_pb2 as pb
from tests.integration.ingress.asking import key_for
from tests.integration.rpc import caller as calling
from tests.integration.rpc.caller import items, terms, whole
from tests.integration.rpc.conftest import staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = {
    "Execute": lambda caller: caller.execute(),
    "Execute with a key": lambda caller: caller.execute(idempotency_key="k"),
    "ExecuteBatch": lambda caller: caller.batch(iter([terms(), items([b'"a"'])])),
    "Generate": lambda caller: caller.generate("upper"),
    "Watch": lambda caller: caller.watch(execution_id="01890000-0000-7000-8000-000000000000"),
}
STRANGERS = {
    "nothing": {},
    "unknown": {"authorization": "Bearer lpk_" + "A" * 43},
    "basic": {"authorization": "Basic dXNlcjpwYXNz"},
    "odd": {"x-api-key": "lpk_A"},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def closed(tmp_path_factory):
    """A product that asks; `http` has an admin's key."""
    async with staged(tmp_path_factory.mktemp("closed"), auth="required") as made:
        _, headers = await key_for(made.system, "admin")
        made.system.http.headers.update(headers)
        await made.system.create()
        yield made


async def having(closed, *scopes, **fields):
    """A caller with a key of its own, told as metadata."""
    _, headers = await key_for(closed.system, *scopes, **fields)
    return await closed.caller({name.lower(): value for name, value in headers.items()})


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("credentials", STRANGERS.values(), ids=STRANGERS)
async def test_strangers_are_told_how_and_nothing_else(closed, call, credentials):
    """Each method asks."""
    found = await calling.refusal(call(await closed.caller(credentials)))
    assert (found.status, found.code) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert "X-Api-Key" in found.detail


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_key_without_the_scope_is_told_which(closed, call):
    """PERMISSION_DENIED names what it takes."""
    scope = "author" if call is not CALLS["Generate"] else "execute"
    found = await calling.refusal(call(await having(closed, scope)))
    assert (found.status, found.code) == ("PERMISSION_DENIED", "FORBIDDEN")
    assert found.metadata["scope"]


async def test_each_tenant_has_its_own(closed):
    """What another one has is not there, whatever the method."""
    ours = await having(closed, "execute")
    theirs = await having(closed, "admin", tenant="acme")
    done = await ours.execute(idempotency_key="same")
    assert done.output == b'"A"'
    for call in ("Execute", "ExecuteBatch", "Generate"):
        found = await calling.refusal(CALLS[call](theirs))
        assert (found.status, found.code) == ("NOT_FOUND", "TASK_NOT_FOUND")
    watched = await calling.refusal(theirs.watch(execution_id=done.id))
    assert watched.code == "EXECUTION_NOT_FOUND"
    assert [each.kind async for each in ours.watch(execution_id=done.id)] == ["ended"]
    other = await calling.refusal(theirs.execute(idempotency_key="same"))
    assert other.code == "TASK_NOT_FOUND"


@pytest.mark.parametrize("fields", [{}, {"idempotency_key": "k"}], ids=["short", "general"])
async def test_a_rate_is_told_and_kept(closed, fields):
    """What is left stands in the trailing metadata; then RESOURCE_EXHAUSTED says when."""
    caller = await having(closed, "execute", rate="2/hour")
    call = caller.execute(**fields)
    assert (await call).status == "success"
    told = dict(await call.trailing_metadata())
    assert (told["ratelimit-limit"], told["ratelimit-remaining"]) == ("2", "1")
    await caller.execute(**fields)
    call = caller.execute(**fields)
    found = await calling.refusal(call)
    assert (found.status, found.code) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert found.retry_after_s
    assert dict(await call.trailing_metadata())["ratelimit-remaining"] == "0"


async def test_a_quota_holds_for_batches(closed):
    """Items beyond it are refused each by itself."""
    caller = await having(closed, "execute", quota="3/day")
    results, _ = await whole(caller.batch(iter([terms(), items([b'"a"'] * 5)])))
    assert [each.status for each in results] == ["success"] * 3 + ["rejected"] * 2
    assert results[-1].error.type == "RATE_LIMITED"


async def test_describing_takes_no_key(closed):
    """Probes, and tools that look for the service, have none."""
    caller = await closed.caller()
    raw = caller.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert await raw(b"") == b"\x08\x01"  # SERVING
    name = pb.DESCRIPTOR.services_by_name["Loopai"].full_name.encode()
    asked = b"\x3a\x00"  # list_services
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async for answer in caller.channel.stream_stream(path)(iter([asked])):
        assert name in answer
