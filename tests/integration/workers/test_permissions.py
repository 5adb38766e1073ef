"""The whole product on a broker that asks who one is: each role on its own, and no further."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
import pytest

from streams import connection, ids, permissions, provision, replay, subjects, topology
from tests.receiver import Receiver
from tests.secured import TENANTS, Secured
from tests.system import System
from tests.wait import until
from workers import executor, feeds, gateway, generator, notifier, recorder, syncer
from workers.__main__ import POOLS

EXAMPLES = [
    {"input": {"text": text}, "output": label}
    for number in range(20)
    for text, label in ((f"where is my parcel {number}", "parcel"), (f"bill {number}", "bill"))
]


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    async with Secured(tmp_path / "nats") as started:
        bus = await connection.connect(started.url, name="admin", role="admin")
        await provision.apply(bus, topology.topology())
        await bus.close()
        yield started


@contextlib.asynccontextmanager
async def connected(secured: Secured, role: str) -> AsyncIterator[tuple[Any, list[str]]]:
    """A client of *role*, or of a tenant, and what the broker has forbidden it."""
    bus = connection.Connection()
    forbidden: list[str] = []

    async def failed(error: Exception) -> None:
        forbidden.append(str(error))

    tenant = role.removeprefix("tenant-") if role.startswith("tenant-") else None
    inbox = subjects.tenant_inbox(tenant) if tenant else subjects.inbox(role)
    await bus.client.connect(secured.url_of(role), inbox_prefix=inbox, error_cb=failed)
    try:
        yield bus.client, forbidden
    finally:
        await bus.client.close()


async def may_publish(client: Any, forbidden: list[str], subject: str) -> bool:
    """Whether the broker lets *client* publish on *subject*."""
    await client.publish(subject, b"{}")
    return await _is_allowed(client, forbidden, subject)


async def may_subscribe(client: Any, forbidden: list[str], subject: str) -> bool:
    subscription = await client.subscribe(subject)
    allowed = await _is_allowed(client, forbidden, subject)
    if allowed:
        await subscription.unsubscribe()
    return allowed


async def _is_allowed(client: Any, forbidden: list[str], subject: str) -> bool:
    """Whether the broker had nothing against *subject*: what it forbids comes in order."""
    marker = f"forbidden.{ids.new()}"
    await client.publish(marker, b"")
    await until(lambda: any(marker in each for each in forbidden))
    return not any(f'"{subject.lower()}"' in each for each in forbidden)


@contextlib.asynccontextmanager
async def product(secured: Secured, folder: Path) -> AsyncIterator[System]:
    """All parts, each as its own role."""
    async with contextlib.AsyncExitStack() as stack:
        bus = await connection.connect(secured.url, name="test", role="admin")
        stack.push_async_callback(bus.close)
        yield await System.started(
            stack,
            secured,  # type: ignore[arg-type]  # has a URL, which is all that is asked of it
            bus,
            folder,
            pools=(executor, generator, recorder, notifier, syncer, gateway),
            url_of=secured.url_of,
            webhook_private="allowed",
        )


async def test_every_pool_has_a_role() -> None:
    """Who adds a pool says what it may do."""
    assert {"ingress", *POOLS} <= {role.name for role in permissions.ROLES}


async def test_the_notifier_has_a_right_to_each_of_its_feeds() -> None:
    """They are made when somebody wants them, under names that the role knows."""
    for source in feeds.SOURCES:
        spec = source.consumer
        made = f"{permissions.API}.CONSUMER.CREATE.{spec.stream}.{spec.durable}"
        assert f"{made}.{spec.filter_subject}" in permissions.NOTIFIER.publish, source.name


async def test_the_whole_product_runs_with_a_user_for_each_role(
    secured: Secured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks, generation, executions, batches, cancelling, keys, webhooks, events, dead letters."""
    async with product(secured, tmp_path / "data") as system, Receiver() as receiver:
        await system.create()
        hooks = await _hooked(system, receiver)
        upload = {"code": "def run(input):\n    return input + '!'\n", "activate": True}
        answer = await system.http.post("/api/v1/tasks/upper/artifacts", json=upload)
        assert answer.status_code == 201, answer.text
        assert (await system.execute("a")).json()["output"] == "a!"
        await system.create("broken", "def run(input):\n    raise ValueError(input)\n")
        assert (await system.execute("a", task="broken")).json()["status"] == "error"
        items = [{"id": str(n), "input": "x"} for n in range(300)]
        batch = {"task_id": "upper", "items": items}
        answer = await system.http.post("/api/v1/batch/execute", json=batch)
        assert {each["output"] for each in answer.json()["results"]} == {"x!"}
        looked_up = (await system.execute("b")).json()["id"]
        found = await system.http.get(f"/api/v1/executions/{looked_up}")
        assert found.json()["output"] == "b!"
        assert (await system.http.get("/api/v1/queues")).status_code == 200
        assert (await system.http.delete(f"/api/v1/executions/{looked_up}")).status_code == 409
        await _done_once(system)
        await _generated(system)
        await _given_up(system, secured)
        await _told(system, receiver, hooks)
        assert (await system.http.get("/health")).json()["status"] == "healthy"

    assert [line for line in caplog.messages if "violation" in line.lower()] == []


async def _generated(system: System) -> None:
    """A program is made from examples, stored, and followed by the site."""
    task = {
        "name": "tickets",
        "input_schema": {"type": "object"},
        "output_schema": {"enum": ["parcel", "bill"]},
        "examples": EXAMPLES,
        "accuracy_target": 0.5,
    }
    (await system.http.post("/api/v1/tasks", json=task)).raise_for_status()
    made = await system.http.post("/api/v1/tasks/tickets/generate?wait=60", json={})
    assert made.json()["status"] == "succeeded", made.text

    async def is_followed() -> bool:
        (site,) = (await system.http.get("/api/v1/sync")).json()["sites"]
        return bool(site["missing"] == 0 and site["versions"] >= 3)

    await until(is_followed)


KINDS = (
    "execution.succeeded",
    "execution.failed",
    "artifact.created",
    "artifact.activated",
    "operation.finished",
)
"""Of every source that a notifier reads."""


async def _hooked(system: System, receiver: Receiver) -> list[str]:
    """Webhooks for everything, one of them to an endpoint that wants no more."""
    receiver.answer = lambda post: 410 if post.path == "/gone" else 204
    made = []
    for path, kinds in (("/all", KINDS), ("/gone", ("artifact.created",))):
        body = {"url": f"{receiver.url}{path}", "events": kinds}
        answer = await system.http.post("/api/v1/webhooks", json=body)
        assert answer.status_code == 201, answer.text
        made.append(f"/api/v1/webhooks/{answer.json()['id']}")
    return made


async def _told(system: System, receiver: Receiver, hooks: list[str]) -> None:
    """Of all that happened; by request once more; and no more once they are deleted."""
    everything, gone = hooks

    async def told() -> bool:
        kinds = {post.json["type"] for post in receiver.posts if post.path == "/all"}
        return kinds == set(KINDS)

    async def disabled() -> bool:
        reason: str = (await system.http.get(gone)).json()["disabled_reason"]
        return "410" in reason

    await until(told)
    await until(disabled)
    listed = (await system.http.get(f"{everything}/deliveries")).json()["deliveries"]
    again = f"{everything}/deliveries/{listed[0]['id']}/redeliver"
    for path in (again, f"{everything}/ping"):
        assert (await system.http.post(path)).status_code == 202
    assert (await system.http.patch(everything, json={"description": "x"})).status_code == 200
    await until(lambda: _posted(receiver, listed[0]["id"]) == 2)
    for path in hooks:
        assert (await system.http.delete(path)).status_code == 204
    log = await system.bus.jetstream.stream_info("WEBHOOK_LOG")
    assert log.state.messages == 0


def _posted(receiver: Receiver, delivery: str) -> int:
    return [post.id for post in receiver.posts].count(delivery)


async def _done_once(system: System) -> None:
    """A key keeps an execution and an answer from being done twice; events tell of their end."""
    for path, body in (
        ("/api/v1/tasks", {"name": "once"}),
        ("/api/v1/tasks/upper/execute?wait=0", {"input": "z"}),
    ):
        first, second = [
            await system.http.post(path, json=body, headers={"Idempotency-Key": path})
            for _ in range(2)
        ]
        assert first.is_success, first.text
        assert second.headers["idempotent-replayed"] == "true"
    following = f"/api/v1/executions/{first.json()['id']}/events"
    assert "event: ended" in (await system.http.get(following)).text


async def _given_up(system: System, secured: Secured) -> None:
    """What is rubbish goes to DEAD by an executor, what was given up by the recorder."""
    subject = "loopai.v1.execute.interactive.acme.nothing"
    async with connected(secured, "tenant-acme") as (acme, _):
        told = acme.new_inbox()
        answers = await acme.subscribe(told)
        await acme.publish(subject, b"\xc1", headers={"Loopai-Reply-To": told})
        await answers.next_msg(timeout=15)
    await system.stop_pool(generator)
    async with connected(secured, "ingress") as (ingress, _):
        await ingress.publish("loopai.v1.generate.acme.nothing", b"\xc1")
    pull = "$JS.API.CONSUMER.MSG.NEXT.GENERATE.generator"
    async with connected(secured, "generator") as (client, _):
        inbox = client.new_inbox()
        deliveries = await client.subscribe(inbox)
        for _ in range(topology.MAX_DELIVER):
            await client.publish(pull, b"", reply=inbox)
            await client.publish((await deliveries.next_msg(timeout=15)).reply, b"-NAK")
        # The broker gives it up when it is asked once more than it delivers.
        await client.publish(pull, b"", reply=inbox)
        await until(lambda: _are_dead(system, 2))
    await system.start_pool(generator)


async def _are_dead(system: System, count: int) -> bool:
    return (await system.bus.jetstream.stream_info("DEAD")).state.messages == count


async def test_a_tenant_calls_and_publishes_and_reaches_nobody_else(
    secured: Secured, tmp_path: Path
) -> None:
    """Its own tasks by call and by publish; no subject, stream or inbox of anybody else."""
    async with product(secured, tmp_path / "data") as system:
        async with connected(secured, "tenant-acme") as (acme, forbidden):
            answer = await acme.request("loopai.v1.call.acme.upper", b'{"input": "x"}', timeout=15)
            assert msgspec.json.decode(answer.data)["code"] == "TASK_NOT_FOUND"
            inbox = acme.new_inbox()
            answers = await acme.subscribe(inbox)
            headers = {"Content-Type": "application/json", "Loopai-Reply-To": inbox}
            stored = await acme.jetstream().publish(
                "loopai.v1.execute.bulk.acme.upper", b'{"input": "x"}', headers=headers
            )
            assert stored.stream == "EXECUTE"
            record = msgspec.json.decode((await answers.next_msg(timeout=15)).data)
            assert (record["status"], record["error"]["type"]) == ("rejected", "TASK_NOT_FOUND")
            for subject in (
                "loopai.v1.call.beta.upper",
                "loopai.v1.execute.interactive.beta.upper",
                "loopai.v1.execute.interactive.acme.3.beta.upper",
                "loopai.v1.record.acme.upper",
                "loopai.v1.generate.acme.upper",
                "$KV.tasks.acme.upper",
                "$JS.API.STREAM.INFO.EXECUTE",
                "$JS.API.DIRECT.GET.RECORDS",
                "$JS.API.STREAM.DELETE.RECORDS",
                "_INBOX.tenant.beta.x",
                "_INBOX.ingress.x",
            ):
                assert not await may_publish(acme, forbidden, subject), subject
            for subject in (
                ">",
                "loopai.>",
                "loopai.v1.call.acme.*",
                "_INBOX.>",
                "_INBOX.tenant.*.>",
                "_INBOX.tenant.beta.>",
                "_INBOX.x",
            ):
                assert not await may_subscribe(acme, forbidden, subject), subject
        async with connected(secured, "tenant-3") as (three, forbidden):
            # Its name reads like a group of queues.
            subject = "loopai.v1.execute.interactive.3.2.acme.upper"
            assert not await may_publish(three, forbidden, subject)
        await _spares_inboxes_of_others(secured)
        assert system.bus.client.is_connected


async def _spares_inboxes_of_others(secured: Secured) -> None:
    """No worker writes into beta's inbox because acme asks it to."""
    async with (
        connected(secured, "tenant-acme") as (acme, _),
        connected(secured, "tenant-beta") as (beta, _),
    ):
        inbox = beta.new_inbox()
        heard = await beta.subscribe(inbox)
        own = acme.new_inbox()
        answers = await acme.subscribe(own)
        await acme.publish("loopai.v1.call.acme.upper", b'{"input": 1}', reply=inbox)
        for reply_to in (inbox, own):
            headers = {"Content-Type": "application/json", "Loopai-Reply-To": reply_to}
            subject = "loopai.v1.execute.interactive.acme.upper"
            await acme.publish(subject, b'{"input": 1}', headers=headers)
        await answers.next_msg(timeout=15)  # the last of the three
        await beta.flush()
        with pytest.raises(nats.errors.TimeoutError):
            await heard.next_msg(timeout=0.2)


ROLES = sorted({role.name for role in permissions.ROLES} - {"admin"})


@pytest.mark.parametrize("role", [*ROLES, *(f"tenant-{each}" for each in TENANTS)])
async def test_only_the_admin_changes_streams(secured: Secured, role: str) -> None:
    """Nobody else makes, empties or deletes one, or makes a durable consumer."""
    async with connected(secured, role) as (client, forbidden):
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE"):
            for stream in ("RECORDS", "EXECUTE", "KV_tasks", "mine"):
                subject = f"$JS.API.STREAM.{verb}.{stream}"
                assert not await may_publish(client, forbidden, subject), subject
        for subject in (
            "$JS.API.CONSUMER.DURABLE.CREATE.RECORDS.x",
            "$JS.API.CONSUMER.CREATE.RECORDS",
            "$JS.API.CONSUMER.DELETE.EXECUTE.executor-bulk-0-0",
            "$JS.API.STREAM.MSG.DELETE.RECORDS",
        ):
            assert not await may_publish(client, forbidden, subject), subject


@pytest.mark.parametrize(
    ("role", "subjects_of_others"),
    [
        (
            "gateway",
            (
                "$JS.API.DIRECT.GET.DEAD",
                "$JS.API.STREAM.MSG.GET.DEAD",
                "$JS.API.CONSUMER.CREATE.DEAD.x.>",
                "$JS.API.DIRECT.GET.RECORDS",
                "loopai.v1.execute.bulk.acme.upper",
                "loopai.v1.record.acme.upper",
                "loopai.v1.reply.ingress.x",
                "$KV.tasks.acme.upper",
                "$KV.workers.executor.x",
                "_INBOX.ingress.x",
            ),
        ),
        (
            "executor",
            (
                "loopai.v1.execute.interactive.acme.upper",
                "loopai.v1.generate.acme.upper",
                "loopai.v1.call.acme.upper",
                "$KV.tasks.acme.upper",
                "$KV.artifacts.x.1",
                "$KV.rollouts.x",
                "$KV.cancellations.x",
                "loopai.v1.dead.GENERATE.acme.upper",
                "$JS.API.CONSUMER.MSG.NEXT.GENERATE.generator",
                "$JS.ACK.GENERATE.generator.1.1.1.1.1",
                "$JS.API.DIRECT.GET.DEAD",
            ),
        ),
        (
            "generator",
            ("loopai.v1.execute.bulk.acme.upper", "loopai.v1.record.a.b", "$KV.tasks.a.b"),
        ),
        (
            "recorder",
            ("loopai.v1.execute.bulk.acme.upper", "loopai.v1.record.a.b", "$KV.tasks.a.b"),
        ),
        ("syncer", ("$KV.artifacts.x.1", "$JS.API.DIRECT.GET.RECORDS", "loopai.v1.record.a.b")),
        (
            "ingress",
            (
                "loopai.v1.record.a.b",
                "loopai.v1.webhook_log.a.b",
                "$JS.API.CONSUMER.MSG.NEXT.EXECUTE.executor-bulk-0-0",
                "$JS.API.CONSUMER.MSG.NEXT.WEBHOOKS.notifier",
                "$JS.API.STREAM.PURGE.DEAD",
            ),
        ),
        (
            "notifier",
            (
                "loopai.v1.execute.bulk.acme.upper",
                "loopai.v1.record.a.b",
                "loopai.v1.dead.EXECUTE.a.b",
                "$KV.tasks.a.b",
                "$KV.keys.x",
                "$KV.operations.x",
                "$JS.API.STREAM.MSG.GET.KV_keys",
                "$JS.API.DIRECT.GET.KV_keys",
                "$JS.API.DIRECT.GET.RECORDS",
                "$JS.API.CONSUMER.CREATE.RECORDS.other.loopai.v1.record.>",
                "$JS.API.CONSUMER.CREATE.EXECUTE.notifier-records.loopai.v1.execute.>",
                "$JS.API.CONSUMER.DELETE.WEBHOOKS.notifier",
                "$JS.API.STREAM.PURGE.WEBHOOK_LOG",
            ),
        ),
        ("auditor", ("loopai.v1.record.a.b", "$JS.API.DIRECT.GET.EXECUTE", "$KV.tasks.a.b")),
    ],
)
async def test_a_role_does_no_other_roles_work(
    secured: Secured, role: str, subjects_of_others: tuple[str, ...]
) -> None:
    """What it need not do it may not do, and it hears nobody's answers but its own."""
    async with connected(secured, role) as (client, forbidden):
        for subject in subjects_of_others:
            assert not await may_publish(client, forbidden, subject), subject
        others = {"ingress", "executor", "gateway", "admin"} - {role}
        for subject in (
            ">",
            "loopai.v1.execute.>",
            "loopai.v1.call.*.*",
            "_INBOX.>",
            "_INBOX.tenant.acme.>",
            *(f"_INBOX.{other}.>" for other in others),
            *(f"loopai.v1.reply.{other}.*" for other in others),
        ):
            assert not await may_subscribe(client, forbidden, subject), subject


async def test_the_auditor_reads_the_records(secured: Secured, tmp_path: Path) -> None:
    """All of them, without a consumer; nothing else."""
    async with product(secured, tmp_path / "data") as system:
        await system.create()
        execution_id = (await system.execute("a")).json()["id"]
        bus = await connection.connect(secured.url_of("auditor"), name="audit", role="auditor")
        async with asyncio.timeout(15):
            found = [record.id async for record in replay.records(bus, tenant="default")]
        await bus.close()
        assert found == [execution_id]
