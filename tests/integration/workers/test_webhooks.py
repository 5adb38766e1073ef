"""Webhooks from end to end: the real bus, a real receiver, the notifier beside an executor."""

import contextlib
import functools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import httpx
import msgspec
import pytest

from loopai.embedded.broker import Broker
from loopai.webhooks import happenings, subscriptions
from streams import codec, connection, ids, replay, subjects
from streams.messages import DeadLetter, RecordBatch, WebhookEvent
from tests.receiver import Receiver
from tests.system import System
from tests.wait import until
from workers import executor, generator, notifier

QUICK_S = (0.05, 0.05, 0.1)
"""Four attempts within a moment."""
QUICK: Any = SimpleNamespace(
    NAME="notifier", opened=functools.partial(notifier.opened, delays_s=QUICK_S)
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


@pytest.fixture
async def hooked(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """A system with a notifier that may call this machine and does not wait long."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(
            stack,
            broker,
            bus,
            tmp_path / "data",
            pools=(executor, QUICK),
            webhook_private="allowed",
        )


async def subscribe(system: System, url: str, *events: str, **fields: Any) -> dict[str, Any]:
    body = {"url": url, "events": events or ("execution.succeeded",), **fields}
    answer = await system.http.post("/api/v1/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def deliveries(system: System, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await system.http.get(f"/api/v1/webhooks/{webhook['id']}/deliveries")
    found: list[dict[str, Any]] = answer.raise_for_status().json()["deliveries"]
    return found


async def test_the_end_of_an_execution_is_posted_and_signed(
    hooked: System, receiver: Receiver
) -> None:
    """Id, time and body are signed with the secret that the subscription was answered with."""
    await hooked.create()
    webhook = await subscribe(hooked, f"{receiver.url}/hook?a=b")
    done = (await hooked.execute("a")).json()
    await until(lambda: len(receiver.posts) == 1)
    (post,) = receiver.posts
    assert post.path == "/hook?a=b"
    assert post.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert post.headers["content-type"] == "application/json"
    assert post.verify(webhook["secret"])
    assert not post.verify("whsec_" + "A" * 32)
    assert post.json["type"] == "execution.succeeded"
    assert post.json["data"]["id"] == done["id"]
    assert post.json["data"]["output"] == "A"


async def test_an_execution_that_fails_is_another_event(hooked: System, receiver: Receiver) -> None:
    """Each subscription hears of what it asked for, and of nothing else."""
    await hooked.create()
    await hooked.create("broken", "def run(input):\n    raise ValueError(input)\n")
    await subscribe(hooked, f"{receiver.url}/good")
    await subscribe(hooked, f"{receiver.url}/bad", "execution.failed")
    await subscribe(hooked, f"{receiver.url}/other", "execution.failed", task="upper")
    await hooked.execute("a")
    await hooked.execute("b", task="broken")
    await until(lambda: len(receiver.posts) == 2)
    found = {post.path: post.json for post in receiver.posts}
    assert found["/good"]["data"]["task"] == "upper"
    assert found["/bad"]["data"]["status"] == "error"
    assert found["/bad"]["data"]["error"]["type"] == "ValueError"


async def test_versions_and_rollouts_are_told(hooked: System, receiver: Receiver) -> None:
    """Created, activated, rolled back: each once, with the versions that it is about."""
    await subscribe(
        hooked, receiver.url, "artifact.created", "artifact.activated", "artifact.rolled_back"
    )
    task = await hooked.create()
    await hooked.store(task["id"], "def run(input):\n    return input\n")
    (await hooked.http.post("/api/v1/tasks/upper/rollout/rollback")).raise_for_status()
    await until(lambda: len(receiver.posts) == 5)
    told = sorted((p.json["type"], p.json["data"]["version"]) for p in receiver.posts)
    assert told == [
        ("artifact.activated", 1),
        ("artifact.activated", 2),
        ("artifact.created", 1),
        ("artifact.created", 2),
        ("artifact.rolled_back", 1),
    ]


async def test_the_end_of_an_operation_is_told(hooked: System, receiver: Receiver) -> None:
    """Not its stages: its end, here a failure, since there is nothing to learn from."""
    await hooked.start_pool(generator)
    await subscribe(hooked, receiver.url, "operation.finished")
    (await hooked.http.post("/api/v1/tasks", json={"name": "empty"})).raise_for_status()
    asked = (await hooked.http.post("/api/v1/tasks/empty/generate", json={})).json()
    await until(lambda: len(receiver.posts) == 1)
    data = receiver.posts[0].json["data"]
    assert (data["id"], data["status"]) == (asked["id"], "failed")
    assert data["error"]["code"] == "TOO_FEW_EXAMPLES"


async def test_what_happened_before_is_not_told(hooked: System, receiver: Receiver) -> None:
    """Neither before a subscription was made, nor while it was disabled."""
    await hooked.create()
    await hooked.execute("before")
    webhook = await subscribe(hooked, receiver.url)
    path = f"/api/v1/webhooks/{webhook['id']}"
    await hooked.execute("first")
    await until(lambda: len(receiver.posts) == 1)
    (await hooked.http.patch(path, json={"enabled": False})).raise_for_status()
    await hooked.execute("unheard")
    (await hooked.http.patch(path, json={"enabled": True})).raise_for_status()
    await hooked.execute("second")
    await until(lambda: len(receiver.posts) == 2)
    assert [post.json["data"]["output"] for post in receiver.posts] == ["FIRST", "SECOND"]


async def test_what_happens_while_no_notifier_runs_is_told_later(
    hooked: System, receiver: Receiver
) -> None:
    """Also to a subscription that was made meanwhile: it counts from its 201 on."""
    await hooked.create()
    await hooked.stop_pool(QUICK)
    await hooked.execute("before")
    await subscribe(hooked, receiver.url)
    done = [(await hooked.execute(str(n))).json()["id"] for n in range(5)]
    await hooked.start_pool(QUICK)
    await until(lambda: len(receiver.posts) == 5)
    assert sorted(post.json["data"]["id"] for post in receiver.posts) == done


async def test_records_are_read_only_while_somebody_wants_them(
    hooked: System, receiver: Receiver, bus: connection.Connection
) -> None:
    """No consumer without a subscription: executions cost nothing for the webhooks of nobody."""

    async def consumers() -> list[str]:
        return [each.name for each in await bus.jetstream.consumers_info("RECORDS")]

    await hooked.create()
    other = await subscribe(hooked, receiver.url, "artifact.created")
    assert await consumers() == []
    webhook = await subscribe(hooked, receiver.url)

    async def reads() -> bool:
        return await consumers() == ["notifier-records"]

    async def rests() -> bool:
        return await consumers() == []

    await until(reads)
    (await hooked.http.delete(f"/api/v1/webhooks/{webhook['id']}")).raise_for_status()
    await until(rests)
    (await hooked.http.delete(f"/api/v1/webhooks/{other['id']}")).raise_for_status()
    await subscribe(hooked, receiver.url)
    await hooked.execute("again")
    await until(lambda: len(receiver.posts) == 1)


async def test_two_hundred_subscriptions_are_told(hooked: System, receiver: Receiver) -> None:
    """Each once, each with an id and a signature of its own."""
    await hooked.create()
    made = [await subscribe(hooked, f"{receiver.url}/{n}") for n in range(200)]
    await hooked.execute("a")
    await until(lambda: len(receiver.posts) == 200, within_s=60)
    assert len({post.id for post in receiver.posts}) == 200
    for post in receiver.posts:
        assert post.verify(made[int(post.path[1:])]["secret"])


async def test_a_large_output_is_left_out(hooked: System, receiver: Receiver) -> None:
    """Beyond 64 KiB there are the ids, by which the rest can be had."""
    await hooked.create("large", "def run(input):\n    return input * 1000\n")
    await subscribe(hooked, receiver.url)
    whole = (await hooked.execute("a" * 60, task="large")).json()
    await until(lambda: len(receiver.posts) == 1)
    assert receiver.posts[0].json["data"]["output"] == whole["output"]
    cut = (await hooked.execute("a" * 66, task="large")).json()
    assert len(cut["output"]) > happenings.BODY_BYTES_MAX
    await until(lambda: len(receiver.posts) == 2)
    data = receiver.posts[1].json["data"]
    assert data["truncated"] is True
    assert (data["id"], data["status"]) == (cut["id"], "success")
    assert "output" not in data
    assert len(receiver.posts[1].body) < 1000


async def test_a_tenant_is_told_only_of_its_own(
    hooked: System, receiver: Receiver, bus: connection.Connection
) -> None:
    """A record of another tenant, of a task of the same name, is nobody's business here."""
    await hooked.create()
    await subscribe(hooked, receiver.url, "execution.succeeded", "execution.failed")
    done = (await hooked.execute("a")).json()
    mine = (await replay.recorded(bus, tenant="default", task="upper", wanted={done["id"]}))[
        done["id"]
    ]
    theirs = msgspec.structs.replace(mine, id=ids.new(), tenant="other")
    payload = codec.RECORDS.encode(RecordBatch(records=(theirs,)))
    await bus.jetstream.publish(subjects.record("other", "upper"), payload)
    await hooked.execute("b")
    await until(lambda: len(receiver.posts) == 2)
    assert theirs.id not in {post.json["data"]["id"] for post in receiver.posts}


async def test_a_dead_execution_is_a_failed_one(
    hooked: System, receiver: Receiver, bus: connection.Connection
) -> None:
    """What went to DEAD has ended as well."""
    await subscribe(hooked, receiver.url, "execution.failed")
    letter = DeadLetter(
        stream="EXECUTE",
        sequence=1,
        subject=subjects.execute("bulk", "default", "upper"),
        reason="max_deliveries",
        detail="gave up",
        deliveries=5,
        execution_ids=(ids.new(), ids.new()),
        dead_at=datetime.now(UTC),
    )
    subject = subjects.dead("EXECUTE", "default", "upper")
    await bus.jetstream.publish(subject, codec.DEAD.encode(letter))
    await until(lambda: len(receiver.posts) == 2)
    assert {post.json["data"]["id"] for post in receiver.posts} == set(letter.execution_ids)
    assert {post.json["type"] for post in receiver.posts} == {"execution.failed"}


async def test_rubbish_on_the_bus_does_not_stop_the_notifier(
    hooked: System, receiver: Receiver, bus: connection.Connection
) -> None:
    """What no notifier can read is passed over; a delivery that is none goes to DEAD."""
    await hooked.create()
    webhook = await subscribe(hooked, receiver.url, *get_args(WebhookEvent))
    for subject in (
        subjects.record("default", "upper"),
        subjects.dead("EXECUTE", "default", "upper"),
        "loopai.v1.dead.EXECUTE.bad name.x".replace(" ", ""),
        "$KV.operations.x",
        "$KV.artifacts.x.1",
        "$KV.rollouts.x",
        subjects.webhook("default", webhook["id"]),
    ):
        await bus.jetstream.publish(subject, b"\xc1 rubbish")
    await hooked.execute("a")
    await until(lambda: any(p.json["type"] == "execution.succeeded" for p in receiver.posts))

    async def dead() -> bool:
        return (await bus.jetstream.stream_info("DEAD")).state.messages == 3

    await until(dead)


async def test_a_private_address_is_not_called(
    broker: Broker, bus: connection.Connection, tmp_path: Path, receiver: Receiver
) -> None:
    """Unless it is allowed: a name that leads to this machine gets no post; the history says so."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(stack, broker, bus, tmp_path / "d", pools=(QUICK,))
        webhook = await subscribe(system, f"http://localhost:{receiver.port}/")
        await system.http.post(f"/api/v1/webhooks/{webhook['id']}/ping")

        async def given_up() -> bool:
            return [d["status"] for d in await deliveries(system, webhook)] == ["failed"]

        await until(given_up)
        (found,) = await deliveries(system, webhook)
        assert "LOOPAI_WEBHOOK_PRIVATE" in found["attempts"][0]["error"]
        assert receiver.posts == []


async def test_both_secrets_sign_while_one_replaces_the_other(
    hooked: System, receiver: Receiver
) -> None:
    """A receiver that has the old one and a receiver that has the new one are both served."""
    webhook = await subscribe(hooked, receiver.url)
    path = f"/api/v1/webhooks/{webhook['id']}"
    rotated = (await hooked.http.patch(path, json={"rotate_secret": True})).json()
    assert rotated["secret"] != webhook["secret"]
    await hooked.http.post(f"{path}/ping")
    await until(lambda: len(receiver.posts) == 1)
    assert receiver.posts[0].verify(webhook["secret"])
    assert receiver.posts[0].verify(rotated["secret"])
    kept = subscriptions.Subscriptions(hooked.bus)
    await kept.change(
        "default",
        webhook["id"],
        lambda old: msgspec.structs.replace(old, former_until=datetime.now(UTC)),
    )
    await hooked.http.post(f"{path}/ping")
    await until(lambda: len(receiver.posts) == 2)
    assert not receiver.posts[1].verify(webhook["secret"])
    assert receiver.posts[1].verify(rotated["secret"])


async def test_every_kind_of_event_is_noticed_when_it_is_asked_for(
    hooked: System, bus: connection.Connection, receiver: Receiver
) -> None:
    """One subscription after the other begins to read another source, none of them late."""

    async def reading() -> set[str]:
        found = set()
        for stream in ("RECORDS", "DEAD", "KV_artifacts", "KV_rollouts", "KV_operations"):
            found |= {each.name for each in await bus.jetstream.consumers_info(stream)}
        return {name for name in found if name.startswith("notifier-")}

    for event, names in (
        ("artifact.created", {"artifacts"}),
        ("artifact.rolled_back", {"artifacts", "rollouts"}),
        ("operation.finished", {"artifacts", "rollouts", "operations"}),
        ("execution.cancelled", {"artifacts", "rollouts", "operations", "records"}),
        ("execution.failed", {"artifacts", "rollouts", "operations", "records", "dead"}),
    ):
        await subscribe(hooked, receiver.url, event)
        wanted = {f"notifier-{name}" for name in names}

        async def read(wanted: set[str] = wanted) -> bool:
            return await reading() == wanted

        await until(read, within_s=5)


async def test_a_notifier_outlives_its_broker(
    hooked: System, receiver: Receiver, broker: Broker
) -> None:
    """The broker is killed and comes back: what happens then is told, without a restart."""
    await hooked.create()
    await subscribe(hooked, receiver.url)
    await hooked.execute("before")
    await until(lambda: len(receiver.posts) == 1)
    broker.kill()
    await broker.start()

    async def again() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (await hooked.execute("after")).status_code == 200
        return False

    await until(again, within_s=30)
    await until(
        lambda: any(p.json["data"]["output"] == "AFTER" for p in receiver.posts), within_s=30
    )
