"""Pages of other origins: those that are named may call and read, and no others."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from loopai.embedded.broker import Broker
from streams.connection import Connection
from tests.integration.ingress.asking import key_for
from tests.integration.ingress.problems import problem
from tests.system import System
from workers import executor

APP = "https://app.example.com"
ALLOW = "access-control-allow-origin"
EXECUTE = "/api/v1/tasks/upper/execute"


@pytest.fixture
async def paged(broker: Broker, bus: Connection, tmp_path: Path) -> AsyncIterator[System]:
    """An ingress that pages of two origins may call with a key; `http` has an admin's."""
    async with contextlib.AsyncExitStack() as stack:
        fields = {"auth": "required", "cors_origins": f"{APP}, http://127.0.0.1:3000"}
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(executor,), **fields
        )
        _, headers = await key_for(system, "admin")
        system.http.headers.update(headers)
        await system.create()
        yield system


async def preflight(system: System, origin: str, **more: str) -> httpx.Response:
    """What a browser asks before a page's request with a key: it sends no credential."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", **more}
    async with httpx.AsyncClient(base_url=system.http.base_url) as browser:
        return await browser.options(EXECUTE, headers=headers)


async def test_a_preflight_is_answered_without_a_credential(paged: System) -> None:
    """With all that a client of ours sends."""
    wanted = "authorization, content-type, idempotency-key, if-match, last-event-id, prefer"
    answer = await preflight(paged, APP, **{"Access-Control-Request-Headers": wanted})
    assert answer.status_code == 200
    assert answer.headers[ALLOW] == APP
    assert "access-control-allow-credentials" not in answer.headers
    assert {"POST", "PATCH", "DELETE"} <= {
        each.strip() for each in answer.headers["access-control-allow-methods"].split(",")
    }


async def test_what_a_page_reads_is_exposed(paged: System) -> None:
    """On the hot path as on every other; another origin meanwhile must not get it from a cache."""
    async with httpx.AsyncClient(base_url=paged.http.base_url, headers=paged.http.headers) as page:
        page.headers["Origin"] = APP
        for answer in (
            await page.post(EXECUTE, json={"input": "a"}),
            await page.get("/api/v1/tasks/upper"),
            await page.get("/health"),
        ):
            assert answer.status_code == 200
            assert answer.headers[ALLOW] == APP
            assert "origin" in answer.headers["vary"].lower()
            exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
            assert {
                *("etag", "location", "retry-after", "x-api-version", "idempotent-replayed"),
                *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
            } <= set(exposed)


async def test_a_page_may_read_why_it_was_refused(paged: System) -> None:
    """Without a key, without such a task, without such a path."""
    async with httpx.AsyncClient(base_url=paged.http.base_url, headers={"Origin": APP}) as page:
        refused = await page.post(EXECUTE, json={"input": "a"})
        problem(refused, "UNAUTHENTICATED")
        page.headers["Authorization"] = paged.http.headers["Authorization"]
        missing = await page.get("/api/v1/tasks/nothing")
        problem(missing, "TASK_NOT_FOUND")
        nowhere = await page.get("/nowhere")
        problem(nowhere, "NOT_FOUND")
    assert [each.headers[ALLOW] for each in (refused, missing, nowhere)] == [APP] * 3


async def test_other_origins_are_told_nothing(paged: System) -> None:
    """Neither before a request nor with its answer; nor one that only looks like one of ours."""
    for origin in ("https://evil.example.com", f"{APP}.evil.org", "http://app.example.com", "null"):
        answer = await preflight(paged, origin)
        assert (answer.status_code, answer.headers.get(ALLOW)) == (400, None)
        answer = await paged.http.post(EXECUTE, json={"input": "a"}, headers={"Origin": origin})
        assert ALLOW not in answer.headers


async def test_without_the_setting_no_page_is_let_in(front: System) -> None:
    """As it was: what a browser asks before is no request of ours."""
    answer = await preflight(front, APP)
    assert answer.status_code == 405
    assert ALLOW not in answer.headers
