"""Webhooks from end to end: the real bus, a real receiver, the notifier beside an executor."""

import contextlib
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopai.embedded.broker import Broker
from streams import connection
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
