"""The Python client when things fail: real connections that break, real servers that are busy."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from loopai_client import AsyncClient, errors

from tests.clients.front import Front, answer
from tests.system import System
from tests.wait import until

BUSY = answer(
    "503 Service Unavailable", b'{"code": "BACKLOG_FULL", "detail": "full"}', retry_after="0"
)
LIMITED = answer(
    "429 Too Many Requests", b'{"code": "RATE_LIMITED", "detail": "x"}', retry_after="1"
)

Fronted = Callable[..., Any]


@pytest.fixture
async def front(system: System) -> AsyncIterator[Fronted]:
    """Opens servers that fail as planned before the real one."""
    async with AsyncExitStack() as stack:

        async def opened(*plan: bytes | int | str) -> Front:
            return await stack.enter_async_context(Front(system.http.base_url, *plan))

        yield opened


@pytest.mark.parametrize(
    "fault",
    [
        BUSY,
        answer("502 Bad Gateway", b"<html>"),
        answer("504 Gateway Timeout", b""),
        answer("409 Conflict", b'{"code": "IDEMPOTENCY_KEY_IN_USE"}', retry_after="0"),
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
        200,
        "restart",
    ],
    ids=["503", "502", "504", "in-use", "nothing", "half", "cut", "restart"],
)
async def test_what_passes_is_sent_again_under_one_key(system, front, opened, fault):
    """The caller gets the answer, and every attempt had the same idempotency key."""
    await system.create()
    server = await front(fault, fault)
    client = await opened(server.url)
    assert (await client.execute("upper", "a")).output == "A"
    assert len(server.keys()) == 3
    assert len(set(server.keys())) == 1


async def test_retry_after_is_waited_for(system, front, opened):
    """A server that says one second is not asked before."""
    await system.create()
    server = await front(LIMITED)
    client = await opened(server.url)
    began = time.monotonic()
    await client.execute("upper", "a", idempotency_key="mine")
    assert time.monotonic() - began >= 1
    assert server.keys() == ["mine", "mine"]


async def test_a_date_may_say_when(front, opened):
    """`Retry-After` may be a date; one that is past is now."""
    server = await front(
        answer("503 Service Unavailable", retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
    )
    client = await opened(server.url)
    await client.tasks.list()
    assert len(server.heads) == 2


async def test_after_as_many_retries_the_error_is_told(front, opened):
    """With `max_retries` 2 there are three attempts, and the last error is raised."""
    server = await front(BUSY, BUSY, BUSY, BUSY)
    client = await opened(server.url, max_retries=2)
    with pytest.raises(errors.UnavailableError) as busy:
        await client.tasks.list()
    assert (busy.value.code, busy.value.retry_after_s) == ("BACKLOG_FULL", 0)
    assert len(server.heads) == 3


async def test_without_retries_nothing_is_sent_twice(system, front, opened):
    """`max_retries` 0: one attempt, and no key."""
    server = await front(BUSY)
    client = await opened(server.url, max_retries=0)
    with pytest.raises(errors.UnavailableError):
        await client.execute("upper", "a")
    assert len(server.heads) == 1
    assert server.keys() == []


@pytest.mark.parametrize(
    "fault",
    [
        answer("400 Bad Request", b'{"code": "INVALID_QUERY"}'),
        answer("401 Unauthorized", b'{"code": "UNAUTHENTICATED"}'),
        answer("403 Forbidden", b'{"code": "FORBIDDEN"}'),
        answer("500 Internal Server Error", b'{"code": "INTERNAL"}'),
        answer("504 Gateway Timeout", b'{"code": "DEADLINE_PASSED", "execution_id": "x"}'),
    ],
    ids=["400", "401", "403", "500", "deadline"],
)
async def test_what_does_not_pass_is_told_at_once(front, opened, fault):
    """It would fail again, or is the caller's own deadline."""
    server = await front(fault)
    client = await opened(server.url)
    with pytest.raises(errors.ApiError) as told:
        await client.tasks.list()
    assert len(server.heads) == 1
    names = {400: "BadRequest", 401: "Authentication", 403: "PermissionDenied"}
    assert type(told.value).__name__ == names.get(told.value.status, "Server") + "Error"


@pytest.mark.parametrize("fault", ["silence", answer("503 Busy", retry_after="60")])
async def test_the_deadline_ends_it(front, opened, fault):
    """Neither a server that is silent nor one that says `later` holds the caller up."""
    server = await front(*[fault] * 9)
    client = await opened(server.url, deadline_s=0.5)
    began = time.monotonic()
    with pytest.raises((errors.DeadlineExceeded, errors.UnavailableError)):
        await client.tasks.list()
    assert time.monotonic() - began < 5


async def test_a_server_that_is_not_there_is_a_failed_connection(front, opened):
    """Nobody listens: tried again, then told."""
    server = await front()
    await server.__aexit__()
    client = await opened(server.url, max_retries=1)
    with pytest.raises(errors.ConnectionFailed, match="GET /api/v1/tasks"):
        await client.tasks.list()


async def test_an_answer_of_something_else_is_an_error(front, opened):
    """Another server's page is no answer of Loopai."""
    server = await front(answer("200 OK", b"<html>"))
    client = await opened(server.url)
    with pytest.raises(errors.LoopaiError, match="not what Loopai answers"):
        await client.tasks.list()


async def test_fields_that_are_new_are_ignored(front, opened):
    """A newer server may say more than this client knows."""
    server = await front(
        answer("200 OK", b'{"tasks": [{"id": "1", "name": "a", "new": 1}], "x": 2}')
    )
    client = await opened(server.url)
    assert (await client.tasks.list())[0].name == "a"


async def test_a_stream_goes_on_where_its_connection_broke(system, front, opened):
    """A cut in the middle of a window: each item has one result, in order."""
    await system.create()
    server = await front(4_000, "restart", 9_000)
    client = await opened(server.url)
    items = ({"input": f"a{number}"} for number in range(300))
    found = [each async for each in client.batch.stream("upper", items, window=100)]
    assert [each.output for each in found] == [f"A{number}" for number in range(300)]
    assert server.plan == []


async def test_who_leaves_is_let_go(system, front):
    """A call that is cancelled ends at once, and the client goes on."""
    await system.create()
    server = await front("silence")
    async with AsyncClient(server.url) as client:
        waiting = asyncio.create_task(client.execute("upper", "a"))
        await until(lambda: bool(server.heads))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await client.execute("upper", "b")).output == "B"


def _told(*events: str) -> bytes:
    """A stream of events that is cut behind the last."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
    return head + b"content-length: 9999\r\n\r\n" + "".join(events).encode()


async def test_events_are_taken_up_where_they_broke(front, opened):
    """The last id goes with the next request; half an event never came."""
    server = await front(
        _told(
            ": hello\n\n", 'id: 7\nevent: queued\ndata: {"status":\ndata: "queued"}\n\n', "data: {"
        ),
        BUSY,
        _told('id: 8\nevent: ended\ndata: {"status": "success"}\n\n'),
    )
    client = await opened(server.url)
    found = [each async for each in client.executions.events("x")]
    assert [(each.kind, each.id) for each in found] == [("queued", "7"), ("ended", "8")]
    assert found[0].data == {"status": "queued"}
    assert "last-event-id: 7" in server.heads[2].lower()


async def test_events_end_where_there_is_nothing_more(front, opened):
    """204 says that all was told."""
    server = await front(answer("204 No Content", b""))
    client = await opened(server.url)
    assert [each async for each in client.operations.events("x")] == []
