"""What becomes of requests whose connection ends, or is to become another protocol's."""

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


@pytest.mark.parametrize("path", [EXECUTE, "/api/v1/tasks/upper/generate"])
async def test_a_body_behind_an_upgrade_is_refused_and_not_passed_over(
    front: System, path: str
) -> None:
    """The parser would skip it: what asks for `"activate": false` would be done as by default."""
    async with Wire(front) as wire:
        wire.writer.write(request(path, b'{"activate":false}', *UPGRADE))
        reply = await wire.reply()
        assert "Upgrade" in reply.problem("MALFORMED_REQUEST")["detail"]
        assert reply.headers["connection"] == "close"


async def test_an_upgrade_without_a_body_is_passed_over(front: System) -> None:
    """As RFC 9110 lets a server do (7.8); what would follow on the connection is not read."""
    async with Wire(front) as wire:
        wire.writer.write(request("/health", b"", *UPGRADE, method="GET"))
        reply = await wire.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
