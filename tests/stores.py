"""Places for program texts: a folder, and a real S3 endpoint of the test's own."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import aioboto3
import pytest
from botocore import exceptions
from testcontainers.core.container import DockerContainer

from loopai.catalog.stores import s3, store
from loopai.embedded import process
from tests import docker
from tests.wait import until

KEY, SECRET = "loopai-tests", "loopai-tests-secret"
BUCKET = "programs"
REGION = "us-east-1"
RCLONE = Path(sys.executable).with_name("rclone")


def credentials(monkeypatch: pytest.MonkeyPatch, key: str = KEY, secret: str = SECRET) -> None:
    """Those of the endpoint, and no other file or server that a client might ask."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    without_credentials_elsewhere(monkeypatch)


def without_credentials_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


class Endpoint:
    """`rclone serve s3` of *folder*, whose folders are buckets; `stop` and `start` as needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with free_port() as port:
            self.port = port
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def store_url(self, prefix: str = "some/prefix") -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint={self.url}&region={REGION}&path_style=true"

    async def start(self) -> Self:
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
            [
                str(RCLONE), "serve", "s3", str(self.folder), "--config", "/dev/null",
                "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}",
                "--vfs-cache-mode", "off",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=process.dies_with_parent(),  # noqa: PLW1509 (it forks nothing)
        )  # fmt: skip
        await until(self._answers)
        return self

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await process.exited(self._process)
            self._process = None

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


class Place:
    """Somewhere to keep texts, of which a test can see and change every byte."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Path(url.removeprefix("file://")) if url.startswith("file:") else None

    async def read(self, path: str) -> bytes | None:
        """What lies at *path* below the root."""
        if self._folder is not None:
            file = self._folder / path
            return file.read_bytes() if file.is_file() else None
        async with store.opened(self.url) as there:
            assert isinstance(there, s3.S3Store)
            with contextlib.suppress(store.Missing):
                return await there._read(path)
        return None

    async def active(self, shelf: str) -> str | None:
        """What is shown as the active version of *shelf*."""
        if self._folder is not None:
            link = self._folder / shelf / "active"
            return str(link.readlink()) if link.is_symlink() else None
        found = await self.read(f"{shelf}/active")
        return None if found is None else found.decode().rstrip("\n")

    async def damage(self, name: str, text: bytes) -> None:
        """Put *text* where the one of digest *name* belongs."""
        path = store.by_digest(name)
        if self._folder is not None:
            (self._folder / path).unlink()
            (self._folder / path).write_bytes(text)
            return
        async with store.opened(self.url) as there:
            assert isinstance(there, s3.S3Store)
            await there._write(path, text)


@contextlib.asynccontextmanager
async def minio() -> AsyncIterator[Place]:
    """A bucket of MinIO in a container. Skips the test where no Docker engine answers."""
    docker.require()
    container = DockerContainer("minio/minio:latest").with_command("server /data")
    container.with_env("MINIO_ROOT_USER", KEY).with_env("MINIO_ROOT_PASSWORD", SECRET)
    container.with_exposed_ports(9000)
    with container as started:
        url = f"http://{started.get_container_host_ip()}:{started.get_exposed_port(9000)}"
        async with aioboto3.Session().client("s3", endpoint_url=url, region_name=REGION) as client:

            async def is_made() -> bool:
                with contextlib.suppress(exceptions.BotoCoreError, exceptions.ClientError):
                    await client.create_bucket(Bucket=BUCKET)
                    return True
                return False

            await until(is_made, 60)
        yield Place(f"s3://{BUCKET}/some/prefix?endpoint={url}&region={REGION}")


@contextlib.asynccontextmanager
async def endpoint(folder: Path) -> AsyncIterator[Endpoint]:
    """A running endpoint with an empty bucket."""
    made = Endpoint(folder)
    try:
        yield await made.start()
    finally:
        await made.stop()


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port of the loopback; it is free again when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def silent_port(port: int = 0) -> Iterator[int]:
    """A port that accepts whoever comes and never says a word."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at *folder*. Skips the test where none may be mounted."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no file system may be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No room in the file system of *folder* while inside."""
    filler = folder / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield
    finally:
        filler.unlink()
