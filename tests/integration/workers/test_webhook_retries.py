"""Endpoints that fail, are slow, or go: what is tried again, what is given up, what is lost."""

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopai.embedded.broker import Broker
from loopai.webhooks import happenings, subscriptions
from streams import connection, publisher, topology
from tests.integration.ingress.problems import problem
from tests.integration.workers.test_webhooks import (
    QUICK_S,
    deliveries,
    hooked,
    receiver,
    subscribe,
)
from tests.receiver import Post, Receiver
from tests.system import System
from tests.wait import until
from workers import courier, executor, notifier

__all__ = ["hooked", "receiver"]

PATIENT: Any = SimpleNamespace(
    NAME="notifier", opened=functools.partial(notifier.opened, delays_s=(0.2,) * 100)
)


async def view(system: System, webhook: dict[str, Any]) -> dict[str, Any]:
    answer = await system.http.get(f"/api/v1/webhooks/{webhook['id']}")
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


async def ping(system: System, webhook: dict[str, Any]) -> str:
    answer = await system.http.post(f"/api/v1/webhooks/{webhook['id']}/ping")
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["id"]
    return found


async def test_a_post_that_fails_is_posted_again_with_its_id(
    hooked: System, receiver: Receiver
) -> None:
    """500, then 302, then 200: three posts of one id, each signed anew; the history has all."""
    answers = [b"HTTP/1.1 500 x\r\ncontent-length: 4\r\n\r\nbusy", 302, 200]
    receiver.answer = lambda _: answers.pop(0)
    webhook = await subscribe(hooked, receiver.url)
    pinged = await ping(hooked, webhook)
    await until(lambda: len(receiver.posts) == 3)
    assert {post.id for post in receiver.posts} == {pinged}
    assert all(post.verify(webhook["secret"]) for post in receiver.posts)
    assert len({post.body for post in receiver.posts}) == 1
    assert receiver.posts[0].json["type"] == "webhook.ping"

    async def told() -> bool:
        return [d["status"] for d in await deliveries(hooked, webhook)] == ["succeeded"]

    await until(told)
    (found,) = await deliveries(hooked, webhook)
    assert (found["id"], found["type"], found["next_attempt_at"]) == (pinged, "webhook.ping", None)
    assert [(a["number"], a["status_code"]) for a in found["attempts"]] == [
        (1, 500), (2, 302), (3, 200)
    ]  # fmt: skip
    assert found["attempts"][0]["error"] == "the endpoint answered 500"
    assert found["attempts"][0]["response"] == "busy"
    assert found["attempts"][0]["duration_ms"] > 0


async def test_an_endpoint_that_was_away_is_told_when_it_is_back(
    broker: Broker, bus: connection.Connection, tmp_path: Path, receiver: Receiver
) -> None:
    """Nobody listens at its port, for a while."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "d", pools=(PATIENT,), webhook_private="allowed"
        )
        webhook = await subscribe(system, receiver.url)
        await receiver.close()
        pinged = await ping(system, webhook)

        async def failed() -> bool:
            found = await deliveries(system, webhook)
            return bool(found) and len(found[0]["attempts"]) >= 2

        await until(failed)
        (found,) = await deliveries(system, webhook)
        assert found["status"] == "retrying"
        assert found["next_attempt_at"] is not None
        assert "no answer" in found["attempts"][0]["error"]
        await receiver.open()
        await until(lambda: len(receiver.posts) == 1)
        assert receiver.posts[0].id == pinged


async def test_a_receiver_may_ask_to_be_left_alone(hooked: System, receiver: Receiver) -> None:
    """`Retry-After: 1` is longer than the next pause would be."""
    times: list[float] = []

    def answer(_: Post) -> bytes | int:
        times.append(time.monotonic())
        if len(times) > 1:
            return 204
        return b"HTTP/1.1 503 x\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"

    receiver.answer = answer
    await ping(hooked, await subscribe(hooked, receiver.url))
    await until(lambda: len(times) == 2)
    assert times[1] - times[0] > 0.9


async def test_what_a_receiver_writes_instead_of_http_is_quoted_in_part(
    hooked: System, receiver: Receiver
) -> None:
    """The history has 200 attempts, and a webhook that is disabled says why: both stay small."""
    receiver.answer = lambda _: b"HTTP/1.1 200 OK\r\n" + b"\x01" * 60_000 + b"\r\n\r\n"
    webhook = await subscribe(hooked, receiver.url)
    await ping(hooked, webhook)

    async def tried() -> bool:
        return bool(await deliveries(hooked, webhook))

    await until(tried)
    (found,) = await deliveries(hooked, webhook)
    assert found["attempts"][0]["error"].startswith("no answer: illegal header line")
    assert len(found["attempts"][0]["error"]) == courier.ERROR_CHARACTERS_MAX


async def test_410_disables_a_webhook_at_once(hooked: System, receiver: Receiver) -> None:
    """The endpoint says that it is gone: nothing is tried again, and the reason is told."""
    receiver.answer = lambda _: 410
    webhook = await subscribe(hooked, receiver.url)
    await ping(hooked, webhook)

    async def disabled() -> bool:
        return not (await view(hooked, webhook))["enabled"]

    await until(disabled)
    assert "410" in (await view(hooked, webhook))["disabled_reason"]
    (found,) = await deliveries(hooked, webhook)
    assert (found["status"], len(found["attempts"])) == ("failed", 1)
    path = f"/api/v1/webhooks/{webhook['id']}"
    problem(await hooked.http.post(f"{path}/ping"), "WEBHOOK_DISABLED")
    problem(
        await hooked.http.post(f"{path}/deliveries/{found['id']}/redeliver"), "WEBHOOK_DISABLED"
    )
    receiver.answer = lambda _: 204
    again = await hooked.http.patch(path, json={"enabled": True})
    assert (again.json()["enabled"], again.json()["disabled_reason"]) == (True, "")
    await ping(hooked, webhook)
    await until(lambda: len(receiver.posts) == 2)


async def test_what_fails_to_the_end_disables_a_webhook(hooked: System, receiver: Receiver) -> None:
    """As many attempts as there are, and nothing else delivered meanwhile."""
    receiver.answer = lambda _: 500
    webhook = await subscribe(hooked, receiver.url)
    await ping(hooked, webhook)

    async def disabled() -> bool:
        return not (await view(hooked, webhook))["enabled"]

    await until(disabled)
    assert len(receiver.posts) == len(QUICK_S) + 1
    reason = (await view(hooked, webhook))["disabled_reason"]
    assert "nothing was delivered since" in reason
    assert "answered 500" in reason
    (found,) = await deliveries(hooked, webhook)
    assert found["status"] == "failed"


async def test_one_event_that_fails_does_not_disable_a_webhook_that_works(
    hooked: System, receiver: Receiver
) -> None:
    """A receiver that cannot take one of them takes the others."""
    webhook = await subscribe(hooked, receiver.url)
    receiver.answer = lambda post: 500 if post.id == receiver.posts[0].id else 204
    bad = await ping(hooked, webhook)
    await until(lambda: bool(receiver.posts))
    good = await ping(hooked, webhook)

    async def given_up() -> bool:
        found = {d["id"]: d["status"] for d in await deliveries(hooked, webhook)}
        return found.get(bad) == "failed" and found.get(good) == "succeeded"

    await until(given_up)
    assert (await view(hooked, webhook))["enabled"]


async def test_a_delivery_can_be_posted_again(hooked: System, receiver: Receiver) -> None:
    """From the history, with the same id and body; what the history has not, cannot."""
    webhook = await subscribe(hooked, receiver.url)
    pinged = await ping(hooked, webhook)

    async def told() -> bool:
        return len(await deliveries(hooked, webhook)) == 1

    await until(told)
    path = f"/api/v1/webhooks/{webhook['id']}/deliveries"
    for expected in (2, 3):
        answer = await hooked.http.post(f"{path}/{pinged}/redeliver")
        assert (answer.status_code, answer.json()["id"]) == (202, pinged)
        await until(lambda expected=expected: len(receiver.posts) == expected)
    assert len({(post.id, post.body) for post in receiver.posts}) == 1
    problem(await hooked.http.post(f"{path}/nothing/redeliver"), "DELIVERY_NOT_FOUND")


async def test_a_slow_endpoint_does_not_hold_up_a_fast_one(
    hooked: System, receiver: Receiver
) -> None:
    """Three hundred wait for an endpoint that hangs; four are with it; another is told at once."""
    go_on = asyncio.Event()

    async def hang(_: Post) -> int:
        await go_on.wait()
        return 204

    receiver.answer = hang
    async with Receiver() as fast:
        slow_one = await subscribe(hooked, receiver.url)
        fast_one = await subscribe(hooked, fast.url)
        kept = subscriptions.Subscriptions(hooked.bus)
        entry = await kept.get("default", slow_one["id"])
        for _ in range(300):
            made = happenings.ping(entry.value, datetime.now(UTC))
            await kept.send("default", made, message_id=made.id)
        await until(lambda: receiver.under_way == courier.ENDPOINT_POSTS_MAX)
        for number in range(20):
            await ping(hooked, fast_one)
            await until(lambda number=number: len(fast.posts) == number + 1, within_s=5)
        assert len(receiver.posts) == courier.ENDPOINT_POSTS_MAX
        go_on.set()
        await until(lambda: len({post.id for post in receiver.posts}) == 300, within_s=60)
    assert receiver.under_way_most == courier.ENDPOINT_POSTS_MAX


async def test_a_tenant_does_not_take_all_posts(hooked: System, receiver: Receiver) -> None:
    """Ten endpoints of one that hang: no more than half of the slots are theirs."""
    go_on = asyncio.Event()

    async def hang(_: Post) -> int:
        await go_on.wait()
        return 204

    receiver.answer = hang
    for _ in range(10):
        webhook = await subscribe(hooked, receiver.url)
        for _ in range(courier.ENDPOINT_POSTS_MAX):
            await ping(hooked, webhook)
    await until(lambda: receiver.under_way == courier.TENANT_POSTS_MAX)
    go_on.set()
    await until(lambda: len({post.id for post in receiver.posts}) == 40)
    assert receiver.under_way_most == courier.TENANT_POSTS_MAX


async def test_events_beyond_the_queue_of_a_webhook_are_dropped_and_counted(
    hooked: System, receiver: Receiver
) -> None:
    """One thousand wait for an endpoint that hangs; others are not held up by the next one."""
    go_on = asyncio.Event()

    async def hang(_: Post) -> int:
        await go_on.wait()
        return 204

    receiver.answer = hang
    await hooked.create()
    async with Receiver() as fast:
        webhook = await subscribe(hooked, receiver.url)
        await subscribe(hooked, fast.url)
        kept = subscriptions.Subscriptions(hooked.bus)
        entry = await kept.get("default", webhook["id"])
        for _ in range(topology.WEBHOOKS.messages_per_subject_max):
            made = happenings.ping(entry.value, datetime.now(UTC))
            await kept.send("default", made, message_id=made.id)
        with pytest.raises(publisher.BacklogFull):
            await kept.send("default", made, message_id="one more")
        problem(await hooked.http.post(f"/api/v1/webhooks/{webhook['id']}/ping"), "BACKLOG_FULL")
        await hooked.execute("a")
        await until(lambda: len(fast.posts) == 1)
        figures = hooked.figures["notifier-test"]
        assert figures.get_sample_value("loopai_webhook_dropped_total") == 1.0
        go_on.set()


async def test_a_killed_notifier_loses_nothing(
    broker: Broker, bus: connection.Connection, tmp_path: Path, receiver: Receiver
) -> None:
    """SIGKILL between, twice: every execution is told, and hardly any of them more than once."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "d", pools=(executor,), webhook_private="allowed"
        )
        await system.create()
        await subscribe(system, receiver.url)
        processes = stack.push_async_callback
        first = await _process(broker)
        processes(_kill, first)
        done = {(await system.execute(str(n))).json()["id"] for n in range(60)}
        await until(lambda: len(receiver.posts) >= 10, within_s=30)
        await _kill(first)
        done |= {(await system.execute(str(n))).json()["id"] for n in range(60)}
        second = await _process(broker)
        processes(_kill, second)
        seen = len(receiver.posts)
        await until(lambda: len(receiver.posts) >= seen + 5, within_s=30)
        await _kill(second)
        third = await _process(broker)
        processes(_kill, third)
        await until(
            lambda: {post.json["data"]["id"] for post in receiver.posts} == done, within_s=60
        )
        ids = Counter(post.json["data"]["id"] for post in receiver.posts)
        webhook_ids = {(post.json["data"]["id"], post.id) for post in receiver.posts}
        assert len(webhook_ids) == len(ids) == 120


async def _process(broker: Broker) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "notifier",
        env={
            **os.environ,
            "LOOPAI_NATS_URL": broker.url,
            "LOOPAI_WEBHOOK_PRIVATE": "allowed",
            "LOOPAI_LOG_LEVEL": "warning",
        },
    )  # fmt: skip


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
        await process.wait()
