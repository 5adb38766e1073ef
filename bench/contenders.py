"""What answers the same request over HTTP: Loopai, an echo that does nothing, and peers.

Each brings its own processes, its broker among them, on free ports of the loopback.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import msgspec

from bench import processes, product, report, wrk
from loopai.embedded import broker, process

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""What peers and plots run on: Loopai does not depend on their packages."""
HOST = "127.0.0.1"
KEY, SECRET = "loopai-bench", "loopai-bench-secret"
"""Of an S3 that lives as long as a measurement."""
START_S_MAX = 60.0
STOP_S_MAX = 5.0
OUTPUT = product.INPUT["a"] + 1

Address = contextlib.AbstractAsyncContextManager[str]


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    url: str
    pids: tuple[int, ...]
    """The processes that it started, without those that they started."""

    def cpu_s(self) -> float:
        return processes.cpu_s(self.pids)


@contextlib.asynccontextmanager
async def running(name: str) -> AsyncIterator[Contender]:
    """A contender that has given the right answer once."""
    before = processes.children()
    async with STARTS[name]() as url:
        await _check(name, url)
        yield Contender(name=name, url=url, pids=tuple(processes.children() - before))


def require(names: Sequence[str]) -> None:
    """Unavailable names what *names* need and this machine lacks, before anything is started."""
    wrk.find()
    if ON_REDIS & {*names}:
        _find_redis()
    if PEERS & {*names} and not PYTHON.exists():
        raise report.Unavailable(
            "the peers are not installed: make .venv-bench/.installed, "
            "or leave them out with --only loopai,echo"
        )


async def _check(name: str, url: str) -> None:
    async with httpx.AsyncClient(timeout=START_S_MAX) as http:
        headers = {"Content-Type": "application/json"}
        answer = await http.post(url, content=wrk.BODY, headers=headers)
    wrong = answer.status_code != httpx.codes.OK
    if not wrong:
        body = answer.json()
        wrong = body != {"input": product.INPUT} if name == "echo" else body["output"] != OUTPUT
    if wrong:
        raise RuntimeError(f"{name} answered {answer.status_code}: {answer.text}")


@contextlib.asynccontextmanager
async def _loopai(sync: broker.Sync) -> AsyncIterator[str]:
    async with product.running(sync) as http:
        yield str(http.base_url.join(product.EXECUTE))


@contextlib.asynccontextmanager
async def _echo() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="loopai-bench-") as folder:
        command = [sys.executable, "-m", "bench.peers.echo"]
        async with _serving(command, Path(folder)) as url:
            yield url


@contextlib.asynccontextmanager
async def _on_nats(name: str) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="loopai-bench-") as folder:
        path = Path(folder)
        async with (
            broker.Broker(path / "nats", sync="default") as nats,
            _serving(_peer(name, nats.url), path) as url,
        ):
            yield url


@contextlib.asynccontextmanager
async def _on_redis(name: str) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="loopai-bench-") as folder:
        path = Path(folder)
        async with redis(path) as broker_url, _serving(_peer(name, broker_url), path) as url:
            yield url


def _peer(name: str, broker_url: str) -> list[str]:
    return [str(PYTHON), "-m", "bench.peers", name, "--broker", broker_url]


@contextlib.asynccontextmanager
async def _serving(command: Sequence[str], folder: Path) -> AsyncIterator[str]:
    """The address that *command* prints once it serves."""
    log = folder / "log"
    started = _start(command, log)
    try:
        yield await _address(started, log)
    finally:
        await _stop(started)


async def _address(started: subprocess.Popen[bytes], log: Path) -> str:
    if started.stdout is None:
        raise RuntimeError("its output is a pipe")
    try:
        async with asyncio.timeout(START_S_MAX):
            line = await asyncio.to_thread(started.stdout.readline)
    except TimeoutError:
        started.kill()  # and so ends the thread that reads
        line = b""
    if not line.startswith(b"http://"):
        said = await asyncio.to_thread(log.read_text, errors="replace")
        raise RuntimeError(f"{started.args!r} did not start:\n{said}")
    return line.decode().strip()


@contextlib.asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """A Redis that keeps nothing on disk, which is when it is fastest."""
    port = _free_port()
    command = [_find_redis(), "--bind", HOST, "--port", f"{port}"]
    command += ["--logfile", str(folder / "redis.log"), "--dir", str(folder)]
    async with _listening([*command, "--save", "", "--appendonly", "no"], port, folder):
        yield f"redis://{HOST}:{port}/0"


@contextlib.asynccontextmanager
async def s3(folder: Path) -> AsyncIterator[str]:
    """The URL of a store in an S3 of this machine; whose it is, this process's environment has."""
    port = _free_port()
    bucket = folder / "s3" / "bench"
    bucket.mkdir(parents=True)
    rclone = Path(sys.executable).with_name("rclone")
    command = [str(rclone), "serve", "s3", str(bucket.parent), "--config", "/dev/null"]
    command += ["--addr", f"{HOST}:{port}", "--auth-key", f"{KEY},{SECRET}"]
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    async with _listening(command, port, folder):
        yield f"s3://bench/?endpoint=http://{HOST}:{port}&region=us-east-1&path_style=true"


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def _listening(command: Sequence[str], port: int, folder: Path) -> AsyncIterator[None]:
    """*command* runs while inside, and listens on *port*."""
    started = _start(command, folder / f"log-{port}")
    try:
        async with asyncio.timeout(START_S_MAX):
            while not await _listens(HOST, port):
                if started.poll() is not None:
                    raise RuntimeError(f"{command[0]} ended: {process.describe(started.wait())}")
                await asyncio.sleep(0.01)
        yield
    finally:
        await _stop(started)


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start *command* with a pipe from its stdout; its stderr goes to *log*."""
    with log.open("wb") as errors:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=process.dies_with_parent(),  # noqa: PLW1509 (it only calls prctl)
        )


async def _stop(started: subprocess.Popen[bytes]) -> None:
    await process.stop(started, STOP_S_MAX)
    if started.stdout:
        started.stdout.close()


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


def _find_redis() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise report.Unavailable("redis-server is not installed: apt-get install redis-server wrk")
    return found


STARTS: Final[Mapping[str, Callable[[], Address]]] = {
    "loopai": functools.partial(_loopai, "default"),
    "loopai-fsync": functools.partial(_loopai, "always"),
    "echo": _echo,
    "faststream": functools.partial(_on_nats, "faststream"),
    "taskiq": functools.partial(_on_nats, "taskiq"),
    "celery": functools.partial(_on_redis, "celery"),
    "arq": functools.partial(_on_redis, "arq"),
}
ON_REDIS: Final = frozenset({"celery", "arq"})
PEERS: Final = frozenset({"faststream", "taskiq"}) | ON_REDIS
