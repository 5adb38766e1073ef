"""The rate and the quota of a key: given over HTTP, held on every way, and nobody else's."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests import redis
from tests.integration.ingress.asking import key_for
from tests.integration.ingress.problems import problem
from tests.system import System
from workers import executor

EXECUTE = "/api/v1/tasks/upper/execute"
Start = Callable[..., Any]


@pytest.fixture
async def start(broker: Broker, bus: connection.Connection, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ingresses that ask for keys; `http` has an admin's without limits."""
    async with contextlib.AsyncExitStack() as stack:

        async def started(**fields: Any) -> System:
            fields = {"pools": (), "auth": "required", **fields}
            system = await System.started(stack, broker, bus, tmp_path / "data", **fields)
            _, headers = await key_for(system, "admin")
            system.http.headers.update(headers)
            return system

        yield started


async def made(system: System, **fields: str) -> dict[str, str]:
    """The header with a new key, made through the API."""
    body = {"name": "limited", "scopes": ["execute", "observe"], **fields}
    answer = await system.http.post("/api/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    assert {name: answer.json()[name] for name in fields} == fields
    return {"Authorization": f"Bearer {answer.json()['key']}"}


def left(answer: httpx.Response) -> int:
    return int(answer.headers["ratelimit-remaining"])


async def test_a_keys_rate_holds_on_every_way(start: Start) -> None:
    """Executions on the hot path and past it, and what only reads, are one count."""
    system = await start(pools=(executor,))
    await system.create()
    limited, other = await made(system, rate="3/day"), await made(system)
    http = system.http
    answers = [
        await http.post(EXECUTE, json={"input": "a"}, headers=limited),
        await http.post(f"{EXECUTE}?wait=30", json={"input": "a"}, headers=limited),
        await http.get("/api/v1/tasks", headers=limited),
    ]
    assert [(each.status_code, left(each)) for each in answers] == [(200, 2), (200, 1), (200, 0)]
    for refused in (
        await http.post(EXECUTE, json={"input": "a"}, headers=limited),
        await http.post(f"{EXECUTE}?wait=30", json={"input": "a"}, headers=limited),
        await http.get("/api/v1/tasks", headers=limited),
    ):
        problem(refused, "RATE_LIMITED")
        assert refused.headers["ratelimit-limit"] == "3"
        assert int(refused.headers["retry-after"]) > 0
    answer = await http.post(EXECUTE, json={"input": "a"}, headers=other)
    assert answer.status_code == 200
    assert "ratelimit-limit" not in answer.headers


async def test_a_keys_quota_counts_executions(start: Start) -> None:
    """Single ones and items of batches; reading goes on when it is used up."""
    system = await start(pools=(executor,))
    await system.create()
    limited = await made(system, quota="3/day")
    http = system.http
    first = await http.post(EXECUTE, json={"input": "a"}, headers=limited)
    batch = {"task_id": "upper", "items": [{"input": "a"}] * 2}
    assert (first.status_code, left(first)) == (200, 2)
    answer = await http.post("/api/v1/batch/execute", json=batch, headers=limited)
    assert (answer.status_code, left(answer)) == (200, 0)
    for path, body in ((EXECUTE, {"input": "a"}), ("/api/v1/batch/execute", batch)):
        problem(await http.post(path, json=body, headers=limited), "RATE_LIMITED")
    assert (await http.get("/api/v1/tasks", headers=limited)).status_code == 200


async def test_a_keys_limits_stand_before_those_of_all(start: Start) -> None:
    """More than others have, or less."""
    system = await start(rate_limit="4/day")
    more, less = await made(system, rate="6/day"), await made(system, rate="2/day")
    none = await made(system)
    for headers, most in ((more, 6), (less, 2), (none, 4)):
        answers = [await system.http.get("/api/v1/tasks", headers=headers) for _ in range(most + 1)]
        assert [each.status_code for each in answers] == [200] * most + [429]


async def test_ingresses_share_a_keys_rate(start: Start, tmp_path: Path) -> None:
    """Through a Redis, two have as much for it as one has."""
    async with redis.served("server", tmp_path) as cache:
        one, two = [await start(redis_url=cache.url) for _ in range(2)]
        limited = await made(one, rate="4/day")
        answers = [
            await (one, two)[number % 2].http.get("/api/v1/tasks", headers=limited)
            for number in range(6)
        ]
    assert [each.status_code for each in answers] == [200] * 4 + [429] * 2


@pytest.mark.parametrize("field", ["rate", "quota"])
@pytest.mark.parametrize("value", ["soon", "0/day", "-1/day", "10", "1/week", "1.5/hour", 5, None])
async def test_what_is_no_rate_is_refused_by_its_field(
    start: Start, field: str, value: object
) -> None:
    """422, and no key is made."""
    system = await start()
    before = (await system.http.get("/api/v1/keys")).json()
    body = {"name": "k", "scopes": ["observe"], field: value}
    answer = await system.http.post("/api/v1/keys", json=body)
    assert answer.status_code == 422
    assert problem(answer, "INVALID_REQUEST")["errors"][0]["path"] == f"/{field}"
    assert (await system.http.get("/api/v1/keys")).json() == before
