"""A process that cannot work says what is wrong and how to mend it, and exits with 1."""

import asyncio
import socket
from pathlib import Path

import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests.acceptance.conftest import run

PROGRAMS = [
    ("loopai.ingress",),
    ("workers", "executor"),
    ("workers", "generator"),
    ("workers", "recorder"),
    ("workers", "notifier"),
]


@pytest.mark.parametrize("module", PROGRAMS, ids=" ".join)
async def test_without_streams_nothing_starts(module: tuple[str, ...], broker: Broker) -> None:
    """An empty broker: the message names what is missing and the command that makes it."""
    status, said = await run(*module, LOOPAI_NATS_URL=broker.url, LOOPAI_HTTP="127.0.0.1:0")

    assert status == 1
    assert "the broker lacks EXECUTE" in said
    assert "python -m streams apply" in said
    assert "Traceback" not in said


async def test_without_a_broker_nothing_starts() -> None:
    """Nobody at the URL: the message names the URL and two ways to have one."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"nats://127.0.0.1:{unused.getsockname()[1]}"
    results = await asyncio.gather(
        *(run(*module, LOOPAI_NATS_URL=url, LOOPAI_HTTP="127.0.0.1:0") for module in PROGRAMS)
    )

    for status, said in results:
        assert status == 1
        assert url in said
        assert "LOOPAI_NATS_URL" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("url", ["nats://127.0.0.1:99999", "nats://:x", "", "127.0.0.1:4222"])
async def test_a_url_that_is_none_is_named(url: str) -> None:
    """A typing error in the URL is told at once, with the form expected."""
    for module in PROGRAMS:
        status, said = await run(*module, LOOPAI_NATS_URL=url, LOOPAI_HTTP="127.0.0.1:0")

        assert status == 1
        assert f"{url!r} is no URL of a broker" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("texts", "expected file:///folder or s3://bucket/prefix"),
        ("file:///proc/nowhere", "cannot use /proc/nowhere"),
        ("s3://key:sesame@bucket", "credentials come from the AWS_* variables"),
    ],
)
async def test_a_store_that_cannot_be_used_is_named(
    url: str, reason: str, bus: connection.Connection
) -> None:
    """Whoever needs the store says which setting, which URL and why; a secret stays out of it."""
    for module in PROGRAMS[:3]:
        status, said = await run(
            *module,
            LOOPAI_NATS_URL=bus.client.connected_url.geturl(),
            LOOPAI_HTTP="127.0.0.1:0",
            LOOPAI_STORE_URL=url,
        )

        assert status == 1
        assert "error: LOOPAI_STORE_URL=" in said
        assert reason in said
        assert "sesame" not in said
        assert "Traceback" not in said


async def test_a_taken_port_is_named(bus: connection.Connection) -> None:
    """The ingress says which address is taken and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = await run(
            "loopai.ingress",
            LOOPAI_HTTP=address,
            LOOPAI_NATS_URL=bus.client.connected_url.geturl(),
        )

    assert status == 1
    assert address in said
    assert "LOOPAI_HTTP" in said


async def test_an_address_that_others_reach_is_not_opened_by_chance(
    bus: connection.Connection,
) -> None:
    """The ingress names the setting and both of its values; a worker there asks nobody."""
    status, said = await run(
        "loopai.ingress",
        LOOPAI_HTTP="[::]:0",
        LOOPAI_NATS_URL=bus.client.connected_url.geturl(),
    )

    assert status == 1
    assert "LOOPAI_AUTH=required" in said
    assert "LOOPAI_AUTH=none" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("pool", ["executor", "generator"])
async def test_without_a_sandbox_no_program_isrun(
    pool: str, bus: connection.Connection, tmp_path: Path
) -> None:
    """Fail closed: without bubblewrap the pool does not start, and says how to get it."""
    status, said = await run(
        "workers",
        pool,
        LOOPAI_NATS_URL=bus.client.connected_url.geturl(),
        PATH=str(tmp_path),
    )

    assert status == 1
    assert "bubblewrap" in said
    assert "apt-get install bubblewrap" in said


async def test_a_bad_setting_is_named() -> None:
    """A value that cannot be used stops the start by its variable's name."""
    status, said = await run("loopai.ingress", LOOPAI_BODY_BYTES_MAX="lots")

    assert status == 1
    assert "LOOPAI_BODY_BYTES_MAX='lots'" in said
