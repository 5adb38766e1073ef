"""The Python client with parts of the product that an older server may lack."""

import asyncio
import contextlib
import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loopai_client import AsyncClient, errors, verify_webhook
from loopai_client.nats import NatsClient

from tests.clients.front import Front
from tests.system import System
from tests.wait import until
from workers import executor


def part(name: str) -> Any:
    """The module *name*, where this product has it."""
    return pytest.importorskip(name, reason=f"{name} is not there yet")


async def test_events_are_told_until_the_end(system, opened):
    """An execution and an operation, as they go on; what is unknown is an error."""
    part("loopai.ingress.events")
    await system.create()
    client = await opened(system.http.base_url)
    queued = await client.execute("upper", "a", wait_s=0)
    told = [each async for each in client.executions.events(queued.id)]
    assert told[-1].kind == "ended"
    assert told[-1].data["output"] == "A"
    with pytest.raises(errors.NotFoundError):
        _ = [each async for each in client.operations.events(queued.id)]


async def test_events_go_on_where_the_connection_broke(system):
    """Cut behind `queued`: it comes back, and hears of the end alone."""
    part("loopai.ingress.events")
    await system.create()
    await system.stop_pool(executor)
    async with Front(system.http.base_url) as front, AsyncClient(front.url) as client:
        queued = await client.execute("upper", "a", wait_s=0)
        front.plan = [600]
        told = []
        async for event in client.executions.events(queued.id):
            told.append(event.kind)
            if len(told) == 1:
                await system.start_pool(executor)
        assert told == ["queued", "ended"]


async def test_a_webhook_is_made_pinged_and_verified(broker, bus, tmp_path, opened):
    """What arrives is known by its signature; the secret is told once."""
    notifier = part("workers.notifier")
    receiver = importlib.import_module("tests.receiver")
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(notifier,), webhook_private="allowed"
        )
        posts = await stack.enter_async_context(receiver.Receiver())
        client = await opened(system.http.base_url)
        made = await client.webhooks.create(posts.url, ["execution.failed"], description="a")
        assert made.secret
        assert (await client.webhooks.get(made.id)).secret is None
        changed = await client.webhooks.change(made.id, description="b", task=None)
        assert changed.description == "b"
        await client.webhooks.ping(made.id)
        await until(lambda: len(posts.posts) == 1)
        post = posts.posts[0]
        assert verify_webhook(post.headers, post.body, made.secret)
        assert not verify_webhook(post.headers, post.body + b" ", made.secret)

        async def kept() -> bool:
            return bool(await client.webhooks.deliveries(made.id))

        await until(kept)
        (delivery,) = await client.webhooks.deliveries(made.id)
        await client.webhooks.redeliver(made.id, delivery.id)
        await until(lambda: len(posts.posts) == 2)
        assert [each.id for each in await client.webhooks.list()] == [made.id]
        await client.webhooks.delete(made.id)
        assert await client.webhooks.list() == []


async def test_a_key_is_made_used_and_revoked(broker, bus, tmp_path, opened):
    """Its scopes bound what it may; without one there is nothing."""
    part("loopai.ingress.keys")
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), auth="required"
        )
        _, secret = await system.services.keys.create(
            tenant="default",
            name="admin",
            scopes=("admin",),
            created_by="test",
            now=datetime.now(UTC),
        )
        admin = await opened(system.http.base_url, api_key=secret)
        made = await admin.keys.create("reader", ["observe"])
        assert made.key
        reader = await opened(system.http.base_url, api_key=made.key)
        assert await reader.tasks.list() == []
        with pytest.raises(errors.PermissionDeniedError):
            await reader.tasks.create("a")
        assert (await admin.keys.revoke(made.id)).revoked_at
        assert {each.name for each in await admin.keys.list()} == {"admin", "reader"}
        stranger = await opened(system.http.base_url, api_key="lpk_" + "A" * 43)
        with pytest.raises(errors.AuthenticationError):
            await stranger.tasks.list()


async def test_what_is_sent_twice_is_done_once(system, opened):
    """The answers of a batch and of an execution are lost: each has run once."""
    part("loopai.ingress.once")
    await system.create()
    async with Front(system.http.base_url, 40, 40) as front:
        client = await opened(front.url)
        done = await client.execute("upper", "a")
    again = await system.http.get("/metrics")
    assert done.output == "A"
    assert 'loopai_executions_total{status="success"} 1.0' in again.text


async def test_a_key_that_is_given_finds_the_same_execution(system, opened):
    """Twice the same request is one execution; another request is refused."""
    part("loopai.ingress.once")
    await system.create()
    client = await opened(system.http.base_url)
    first, second = await asyncio.gather(
        *(client.execute("upper", "a", idempotency_key="mine") for _ in range(2))
    )
    assert first.id == second.id
    with pytest.raises(errors.InvalidRequestError) as reused:
        await client.execute("upper", "b", idempotency_key="mine")
    assert reused.value.code == "IDEMPOTENCY_KEY_REUSED"


async def test_a_gateway_answers_calls(system: System, tmp_path: Path):
    """The result, or the error that the HTTP API would give."""
    await system.create()
    await system.start_pool(part("workers.gateway"))
    async with await NatsClient.connect(system.broker.url) as client:
        done = await client.call("upper", "a", timeout_ms=10_000)
        assert (done.status, done.output) == ("success", "A")
        with pytest.raises(errors.NotFoundError) as missing:
            await client.call("nothing", "a")
        assert missing.value.code == "TASK_NOT_FOUND"
        with pytest.raises(errors.InvalidRequestError):
            await client.call("upper", 7)
