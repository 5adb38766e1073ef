"""The order in which a request is judged: who asks, limits, scope, kept answers, negotiation.

Each test has two neighbours, and would fail if they changed places.
"""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from loopai.embedded.broker import Broker
from streams import connection, replay, topology
from tests import redis
from tests.integration.ingress.asking import calling, key_for
from tests.integration.ingress.problems import problem
from tests.system import System
from workers import executor

TASKS, KEYS, HOOKS = "/api/v1/tasks", "/api/v1/keys", "/api/v1/webhooks"
EXECUTE = f"{TASKS}/upper/execute"
KEY = {"Idempotency-Key": "k"}
TOO_MUCH = b" " * 2_000_000
IMAGES = {"Accept": "image/png"}
NEW_KEY = {"name": "new", "scopes": ["observe"]}
HOOK = {"url": "https://example.com/hook", "events": ["execution.succeeded"]}


@pytest.fixture
async def closed(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """An ingress that asks who calls; `http` has no key."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "data", pools=(), auth="required")


async def everything(bus: connection.Connection, but: tuple[topology.Bucket, ...] = ()) -> bytes:
    """All that rests on the bus, except in *but*."""
    names = [each.name for each in topology.STREAMS]
    names += [each.stream for each in topology.BUCKETS if each not in but]
    found = [b""]
    for name in names:
        async with contextlib.aclosing(replay.read(bus, name, ">")) as stored:
            found += [each.payload async for each in stored]
    return b"\n".join(found)


async def claims(bus: connection.Connection) -> int:
    """How many idempotency keys are taken."""
    info = await bus.jetstream.stream_info(topology.IDEMPOTENCY.stream)
    return int(info.state.messages)


async def test_a_flood_of_strangers_does_not_reach_redis(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """Who asks comes before limits: nothing is counted, and nothing claimed, for nobody."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(redis.served("server", tmp_path))
        cache = await stack.enter_async_context(Redis.from_url(server.url))
        system = await System.started(
            stack, broker, bus, tmp_path / "data",
            pools=(), auth="required", rate_limit="5/day", redis_url=server.url,
        )  # fmt: skip

        async def commands() -> int:
            return int((await cache.info("stats"))["total_commands_processed"])

        before, mine = await commands(), 1
        for number in range(20):
            for headers in ({}, {"X-Api-Key": "lpk_" + "A" * 43}):
                for path in (EXECUTE, TASKS, KEYS):
                    key = {"Idempotency-Key": f"{number}"} if path != EXECUTE else {}
                    answer = await system.http.post(path, json={}, headers=headers | key)
                    problem(answer, "UNAUTHENTICATED")
                    assert "ratelimit-limit" not in answer.headers
        assert await commands() == before + mine
        assert await claims(bus) == 0
        async with calling(system, "observe") as known:
            assert (await known.get(TASKS)).headers["ratelimit-remaining"] == "4"
        assert await commands() > before + 2 * mine


async def test_what_may_not_be_is_counted_as_well(closed: System) -> None:
    """Limits come before the scope: trying doors is not free."""
    async with calling(closed, "observe", rate="3/day") as known:
        answers = [await known.post(path, json={}) for path in (KEYS, EXECUTE, TASKS, KEYS)]
    assert [each.status_code for each in answers] == [403, 403, 403, 429]


async def test_a_kept_answer_takes_the_scope_of_its_request(closed: System) -> None:
    """The scope comes before what is kept: without it no answer is opened, no key taken."""
    await closed.start_pool(executor)
    async with calling(closed, "author", "execute") as author, calling(closed, "operate") as other:
        for path, body in (
            (TASKS, {"name": "upper", "input_schema": {}}),
            (f"{TASKS}/upper/artifacts", {"code": "def run(input):\n    return input\n"}),
        ):
            answer = await author.post(path, json=body, headers={"Idempotency-Key": path})
            assert answer.status_code == 201, answer.text
            answer = await other.post(path, json=body, headers={"Idempotency-Key": path})
            problem(answer, "FORBIDDEN")
            assert "idempotent-replayed" not in answer.headers
        (await other.post(f"{TASKS}/upper/artifacts/1/activate")).raise_for_status()
        answer = await author.post(EXECUTE, json={"input": "secret"}, headers=KEY)
        assert answer.json()["output"] == "secret"
        answer = await other.post(EXECUTE, json={"input": "secret"}, headers=KEY)
        problem(answer, "FORBIDDEN")
        # What was refused has not taken the key.
        free = {"Idempotency-Key": "free"}
        problem(await other.post(TASKS, json={"name": "a"}, headers=free), "FORBIDDEN")
        assert (await author.post(TASKS, json={"name": "b"}, headers=free)).status_code == 201


async def test_a_kept_answer_is_not_for_a_revoked_key(closed: System) -> None:
    """Who asks comes before what is kept."""
    made, headers = await key_for(closed, "author")
    body = {"name": "upper"}
    for _ in range(2):
        answer = await closed.http.post(TASKS, json=body, headers=headers | KEY)
        assert answer.status_code == 201
    assert answer.headers["idempotent-replayed"] == "true"
    await closed.services.keys.revoke("default", made.id, by="test", now=datetime.now(UTC))
    answer = await closed.http.post(TASKS, json=body, headers=headers | KEY)
    problem(answer, "UNAUTHENTICATED")


async def test_a_replay_is_counted(closed: System) -> None:
    """Limits come before what is kept: asking again and again costs a request each time."""
    async with calling(closed, "author", rate="3/day") as known:
        answers = [await known.post(TASKS, json={"name": "a"}, headers=KEY) for _ in range(4)]
    assert [each.status_code for each in answers] == [201, 201, 201, 429]


@pytest.mark.parametrize(
    "wrong",
    [
        IMAGES,
        {"Content-Type": "text/plain"},
        {"X-Api-Version": "2"},
        {"Idempotency-Key": "a b"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_strangers_learn_nothing_of_what_is_wrong(
    closed: System, wrong: dict[str, str]
) -> None:
    """401 before 406, 415, 400 and 413, and before the body; 403 before them as well."""
    request = httpx.Request(
        "POST", closed.http.base_url.join(KEYS), headers=wrong, content=TOO_MUCH
    )
    problem(await closed.http.send(request), "UNAUTHENTICATED")
    _, headers = await key_for(closed, "author", "execute", "operate", "observe")
    request.headers.update(headers)
    problem(await closed.http.send(request), "FORBIDDEN")


async def test_what_cannot_be_given_is_not_kept(closed: System) -> None:
    """Negotiation is behind what is kept: its refusal is none, and leaves the key free."""
    async with calling(closed, "author") as known:
        body = {"name": "a"}
        answer = await known.post(TASKS, json=body, headers=KEY | IMAGES)
        problem(answer, "NOT_ACCEPTABLE")
        answer = await known.post(TASKS, json=body, headers=KEY)
        assert answer.status_code == 201
        assert "idempotent-replayed" not in answer.headers


async def test_an_api_key_is_nowhere_on_the_bus(closed: System, bus: connection.Connection) -> None:
    """Made behind an idempotency key, or not: its hash is kept, and the answer is not."""
    async with calling(closed, "admin") as admin:
        made = (await admin.post(KEYS, json=NEW_KEY, headers=KEY)).raise_for_status().json()
        problem(await admin.post(KEYS, json=NEW_KEY, headers=KEY), "ANSWER_NOT_KEPT")
        listed = (await admin.get(KEYS)).json()["keys"]
    assert [each["id"] for each in listed if each["name"] == "new"] == [made["id"]]
    stored = await everything(bus)
    assert made["id"].encode() in stored
    assert made["key"].encode() not in stored
    assert await claims(bus) == 1


async def test_a_webhooks_secret_is_only_where_it_signs(
    closed: System, bus: connection.Connection
) -> None:
    """Shown once, and no cache has it: of its subscription's bucket alone it is found."""
    async with calling(closed, "operate") as operator:
        answer = (await operator.post(HOOKS, json=HOOK, headers=KEY)).raise_for_status()
        problem(await operator.post(HOOKS, json=HOOK, headers=KEY), "ANSWER_NOT_KEPT")
        path = f"{HOOKS}/{answer.json()['id']}"
        rotated = await operator.patch(path, json={"rotate_secret": True}, headers=KEY)
        plain = await operator.patch(path, json={"description": "x"})
        assert len((await operator.get(HOOKS)).json()["webhooks"]) == 1
    for each in (answer, rotated):
        assert each.headers["cache-control"] == "no-store"
    assert plain.headers["cache-control"] == "private"
    secrets = [each.json()["secret"].encode() for each in (answer, rotated)]
    elsewhere = await everything(bus, but=(topology.SUBSCRIPTIONS,))
    stored = await everything(bus)
    for secret in secrets:
        assert secret not in elsewhere
        assert secret in stored
    assert await claims(bus) == 1
