"""A real Redis for the tests: a server of this machine, or one in a container."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from testcontainers.core.container import DockerContainer

from loopai.embedded import process
from tests import docker
from tests.wait import until

IMAGE = "redis:8-alpine"
GRACE_S = 5.0


class Server:
    """A Redis on a loopback port of its own that keeps nothing on disk. Use `start` and `kill`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, empty, and wait until it answers; again after `kill`, on the same port."""
        await self._launch()
        await until(self._answers)

    async def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        await process.exited(self._process)

    def pause(self) -> None:
        """From now on it accepts connections, by the kernel, and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        if self._process is not None:
            self.resume()
            await process.stop(self._process, GRACE_S)

    async def _launch(self) -> None:
        found = shutil.which("redis-server")
        assert found, "redis-server is not installed: apt-get install redis-server"
        memory_only = ("--save", "", "--appendonly", "no", "--dir", str(self._folder))
        # Not to pytest's own output: it may be a pipe that nobody reads.
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 (a fork takes about a millisecond)
                [found, "--bind", "127.0.0.1", "--port", str(self.port), *memory_only],
                stdout=log,
                stderr=log,
                preexec_fn=process.dies_with_parent(),  # noqa: PLW1509 (it only calls prctl)
            )

    async def _answers(self) -> bool:
        client = Redis.from_url(self.url, socket_timeout=1.0)
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()


class Container(Server):
    """The same in a container, on the same port before and after a restart."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._container = (
            DockerContainer(IMAGE)
            .with_command(["redis-server", "--save", "", "--appendonly", "no"])
            .with_bind_ports(6379, self.port)
        )
        self._begun = False

    async def kill(self) -> None:
        await asyncio.to_thread(self._container.get_wrapped_container().kill)

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    async def stop(self) -> None:
        await asyncio.to_thread(self._container.stop)

    async def _launch(self) -> None:
        start = self._container.get_wrapped_container().start if self._begun else None
        await asyncio.to_thread(start or self._container.start)
        self._begun = True


@contextlib.asynccontextmanager
async def served(kind: str, folder: Path) -> AsyncIterator[Server]:
    """A running Redis of *kind*, `server` or `container`; the test is skipped without an engine."""
    if kind == "container":
        docker.require()
    started = (Container if kind == "container" else Server)(folder)
    try:
        await started.start()
        yield started
    finally:
        await started.stop()


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
