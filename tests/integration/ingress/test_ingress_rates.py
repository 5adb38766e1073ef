"""Rate limits and quotas over HTTP: what is refused, what is told, and what a Redis is for."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests import redis
from tests.integration.ingress.problems import problem
from tests.system import System
from tests.wait import until
from workers import executor

EXECUTE = "/api/v1/tasks/upper/execute"
BATCH = "/api/v1/batch/execute"
Start = Callable[..., Any]


@pytest.fixture
async def start(broker: Broker, bus: connection.Connection, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ingresses with settings of their own, on one broker."""
    async with contextlib.AsyncExitStack() as stack:

        async def started(**fields: Any) -> System:
            fields = {"pools": (), **fields}
            return await System.started(stack, broker, bus, tmp_path / "data", **fields)

        yield started


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[redis.Server]:
    async with redis.served("server", tmp_path) as running:
        yield running


def told(answer: httpx.Response) -> tuple[int, int, int]:
    """Limit, remaining and reset."""
    limit, left, reset = (
        int(answer.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining", "reset")
    )
    return limit, left, reset


def require_refused(answer: httpx.Response) -> None:
    problem(answer, "RATE_LIMITED")
    assert 1 <= int(answer.headers["retry-after"]) == told(answer)[2]


async def test_without_a_limit_nothing_is_told(start: Start) -> None:
    """No header, on neither way."""
    system = await start(pools=(executor,))
    await system.create()
    for answer in (await system.execute("a"), await system.http.get("/api/v1/tasks")):
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("ratelimit")]


async def test_requests_over_the_rate_are_refused(start: Start) -> None:
    """Whichever way they take, executions and others from one count; health is not counted."""
    system = await start(pools=(executor,), rate_limit="7/day")
    await system.create()  # 1
    answers = [
        await system.execute("a"),
        await system.http.get("/api/v1/tasks"),
        await system.execute("b", version=1),
        await system.http.get("/api/v1/nowhere"),
        await system.execute("c", unknown=1),
        await system.execute("d"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 422, 200]
    assert [told(answer)[:2] for answer in answers] == [(7, left) for left in (5, 4, 3, 2, 1, 0)]
    assert all(0 < told(answer)[2] <= 86_400 for answer in answers)
    for refused in (
        await system.execute("a"),
        await system.http.get("/api/v1/tasks"),
        await system.execute("a", version=1),
        await system.http.post("/api/v1/tasks", json={"name": "x"}),
    ):
        require_refused(refused)
        assert told(refused)[:2] == (7, 0)
    assert (await system.http.get("/health/live")).status_code == 200
    assert (await system.bus.jetstream.stream_info("RECORDS")).state.messages == 3


async def test_every_refusal_tells_what_is_left(start: Start) -> None:
    """Also those that no handler gives: of a key, a method, a path, a body."""
    system = await start(rate_limit="100/day")
    key = {"Idempotency-Key": "k"}
    await system.http.post("/api/v1/tasks", json={"name": "x"}, headers=key)
    answers = [
        await system.http.post("/api/v1/tasks", json={"name": "y"}, headers=key),
        await system.http.post("/api/v1/tasks", headers={"Idempotency-Key": "a b"}),
        await system.http.put("/api/v1/tasks"),
        await system.http.post("/api/v1/nowhere"),
        await system.http.post("/api/v1/tasks", content=b" " * 2_000_000),
    ]
    assert [answer.status_code for answer in answers] == [422, 400, 405, 404, 413]
    assert [told(answer)[:2] for answer in answers] == [(100, left) for left in range(98, 93, -1)]


async def test_who_comes_again_later_is_served(start: Start) -> None:
    """By the real clock: 2 a second, refused at first, let in when the second is over."""
    system = await start(pools=(executor,), rate_limit="2/second")

    async def answered(status: int) -> bool:
        return (await system.http.get("/api/v1/tasks")).status_code == status

    await until(lambda: answered(429))
    await until(lambda: answered(200))


async def test_a_batch_costs_its_items(start: Start) -> None:
    """All or none; what is refused takes nothing from the quota."""
    system = await start(pools=(executor,), execution_quota="5/day")
    await system.create()

    async def batch(count: int) -> httpx.Response:
        body = {"task_id": "upper", "items": [{"input": "a"}] * count}
        return await system.http.post(BATCH, json=body)

    assert (await system.execute("a")).status_code == 200
    first = await batch(3)
    assert (first.status_code, told(first)[:2]) == (200, (5, 1))
    require_refused(await batch(2))
    assert (await batch(0)).status_code == 200
    problem(await system.execute(7), "INVALID_INPUT")
    last = await system.execute("b")
    assert (last.status_code, told(last)[:2]) == (200, (5, 0))
    require_refused(await system.execute("c"))
    require_refused(await system.execute("c", version=1))
    require_refused(await batch(1))


async def test_lines_past_the_quota_are_rejected(start: Start) -> None:
    """A stream goes on; each item that is too many has a result that says so."""
    system = await start(pools=(executor,), execution_quota="3/day")
    await system.create()
    lines = b'{"input":"a"}\n{"wrong":1}\n' + b'{"input":"b"}\n' * 4
    answer = await system.http.post(
        f"{BATCH}?task_id=upper", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    *results, last = [json.loads(line) for line in answer.text.splitlines()]
    found = [(each["error"] or {"type": each["status"]})["type"] for each in results]
    assert found == ["success", "INVALID_REQUEST", "success", "success", *["RATE_LIMITED"] * 2]
    assert last["summary"]["succeeded"] == 3
    require_refused(await system.execute("a"))


async def test_a_replay_costs_a_request_and_no_execution(start: Start) -> None:
    """The same key again: nothing runs, so nothing is taken from the quota."""
    system = await start(pools=(executor,), execution_quota="2/day")
    await system.create()
    headers = {"Idempotency-Key": "k"}
    answers = [
        await system.http.post(EXECUTE, json={"input": "a"}, headers=headers) for _ in range(4)
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert told(await system.execute("b"))[:2] == (2, 0)


async def test_a_refusal_is_not_kept_under_its_key(start: Start) -> None:
    """Who comes again with it, here to an ingress without the limit, is served."""
    limited, free = await start(rate_limit="1/day"), await start()
    assert (await limited.http.get("/api/v1/tasks")).status_code == 200
    body, headers = {"name": "x"}, {"Idempotency-Key": "k"}
    require_refused(await limited.http.post("/api/v1/tasks", json=body, headers=headers))
    answer = await free.http.post("/api/v1/tasks", json=body, headers=headers)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


async def test_two_ingresses_share_a_limit_through_redis(
    start: Start, server: redis.Server
) -> None:
    """Ten for both together, executions and others; the eleventh is refused by either."""
    fields = {"rate_limit": "10/day", "redis_url": server.url}
    one, two = await start(pools=(executor,), **fields), await start(**fields)
    await one.create()  # 1
    answers = [await (one, two)[number % 2].execute("a") for number in range(9)]
    assert [answer.status_code for answer in answers] == [200] * 9
    assert [told(answer)[:2] for answer in answers] == [(10, left) for left in range(8, -1, -1)]
    for system in (one, two):
        require_refused(await system.execute("a"))
        require_refused(await system.http.get("/api/v1/tasks"))


async def test_quotas_are_shared_as_well(start: Start, server: redis.Server) -> None:
    """A batch through one ingress leaves less for the other."""
    fields = {"execution_quota": "5/day", "redis_url": server.url}
    one, two = await start(pools=(executor,), **fields), await start(**fields)
    await one.create()
    await until(lambda: two.services.catalog.find("default", "upper") is not None)
    body = {"task_id": "upper", "items": [{"input": "a"}] * 4}
    assert (await one.http.post(BATCH, json=body)).status_code == 200
    require_refused(await two.http.post(BATCH, json=body))
    assert (await two.execute("a")).status_code == 200
    require_refused(await one.execute("a"))


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_a_redis_that_goes_away_fails_nobody(
    start: Start, server: redis.Server, how: str
) -> None:
    """Each ingress counts by itself meanwhile, and with the others again when it is back."""
    fields = {"rate_limit": "200/day", "redis_url": server.url}
    one, two = await start(**fields), await start(**fields)

    async def left(system: System) -> int:
        answer = await system.http.get("/api/v1/tasks")
        assert answer.status_code == 200
        return told(answer)[1]

    assert [await left(one), await left(two)] == [199, 198]
    await (server.kill() if how == "killed" else _pause(server))
    for number in range(8):
        assert await left(one) == 199 - number
    assert await left(two) == 199
    await (server.start() if how == "killed" else _resume(server))

    async def together() -> bool:
        # Two in a row of one count: by itself neither is as far as the other.
        return await left(one) == await left(two) + 1

    await until(together, within_s=30)


async def _pause(server: redis.Server) -> None:
    server.pause()


async def _resume(server: redis.Server) -> None:
    server.resume()


async def test_a_limit_holds_while_redis_is_away(start: Start, server: redis.Server) -> None:
    """In memory, by each ingress: it refuses the fourth of three."""
    system = await start(rate_limit="3/day", redis_url=server.url)
    await server.kill()
    answers = [await system.http.get("/api/v1/tasks") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    require_refused(answers[3])
