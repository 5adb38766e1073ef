"""Places for program texts: a folder, and a real S3 endpoint of the test's own."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest

from loopai.embedded import process
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
                # What a test changes behind its back is to be seen at once.
                "--dir-cache-time", "0s", "--vfs-cache-mode", "off",
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
def silent_port() -> Iterator[int]:
    """A port that accepts whoever comes and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]
