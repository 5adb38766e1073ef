"""What becomes of requests whose connection ends, or is to become another protocol's."""

import asyncio
import json

import pytest

from loopai.ingress import events
from tests.integration.ingress.sockets import Wire, request
from tests.system import System
from tests.wait import until

EXECUTE = "/api/v1/tasks/upper/execute"
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
"""What Java's client sends with its first request of a connection."""


async def test_who_leaves_behind_another_request_is_noticed(
    front: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events go on until their reader has gone: also one that has asked for something else."""
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    await front.create()
    queued = await front.http.post(f"{EXECUTE}?wait=0", json={"input": "a"})
    path = f"{queued.headers['location']}/events"
    async with Wire(front) as wire:
        wire.writer.write(request(path, b"", method="GET"))
        await until(lambda: front.services.hearing.waiting == 1)
        wire.writer.write(request("/health/live", b"", method="GET"))
        assert b"event: queued" in await wire.reader.readuntil(b"event: queued")
        wire.reset()
    await until(lambda: front.services.hearing.waiting == 0)


async def test_who_leaves_while_waiting_gives_the_place_up(front: System) -> None:
    """Else some who ask and go would keep everybody out, for up to 300 s each."""
    await front.create()
    queued = await front.http.post(f"{EXECUTE}?wait=0", json={"input": "a"})
    ordered = await front.http.post("/api/v1/tasks/upper/generate", json={"activate": False})
    hearing, dispatcher = front.services.hearing, front.services.dispatcher
    for sent in (
        request(f"{queued.headers['location']}?wait=300", b"", method="GET"),
        request(f"{ordered.headers['location']}?wait=300", b"", method="GET"),
        request("/api/v1/tasks/upper/generate?wait=300", b'{"activate":false}'),
        request(f"{EXECUTE}?wait=300", b'{"input":"a","timeout_ms":60000}'),
    ):
        async with Wire(front) as wire:
            wire.writer.write(sent)
            await until(lambda: hearing.waiting + dispatcher.waiting == 1)
            wire.reset()
        await until(lambda: hearing.waiting + dispatcher.waiting == 0)
    assert hearing.subscriptions == 0


async def test_what_was_ordered_is_told_where_nobody_more_may_wait(
    front: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal would have it ordered again; who only looks is refused."""
    await front.create()
    monkeypatch.setattr(front.services.hearing, "_waiting_max", 0)
    ordered = await front.http.post("/api/v1/tasks/upper/generate?wait=9", json={"activate": False})
    assert (ordered.status_code, ordered.json()["status"]) == (202, "queued")
    looked = await front.http.get(f"{ordered.headers['location']}?wait=9")
    assert (looked.status_code, looked.json()["code"]) == (503, "OVERLOADED")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("upgrade", [UPGRADE, ("Connection: Upgrade", "Upgrade: websocket")])
@pytest.mark.parametrize("bytes_at_once", [1, 1 << 20])
async def test_a_protocol_that_is_not_spoken_is_passed_over(
    front: System, upgrade: tuple[str, ...], bytes_at_once: int
) -> None:
    """With its body, and what follows on the connection, as RFC 9110 lets a server do (7.8)."""
    await front.create()
    sent = request(EXECUTE, b'{"input":"a"}', *upgrade) + request(EXECUTE, b'{"input":"b"}')
    async with Wire(front) as wire:
        for at in range(0, len(sent), bytes_at_once):
            wire.writer.write(sent[at : at + bytes_at_once])
            await asyncio.sleep(0)
        for expected in ("A", "B"):
            reply = await wire.reply()
            assert (reply.status, json.loads(reply.body)["output"]) == (200, expected)


async def test_a_tunnel_is_refused(front: System) -> None:
    """CONNECT looks like an upgrade to the parser, with or without one."""
    for more in ((), UPGRADE):
        async with Wire(front) as wire:
            wire.writer.write(request("example.com:443", b"", *more, method="CONNECT"))
            assert (await wire.reply()).status in range(400, 500)
