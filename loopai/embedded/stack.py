"""All of Loopai under one process: broker, streams, ingress, and workers of every pool."""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import msgspec
import nats.errors

from loopai import errors, settings
from loopai.catalog import keys
from loopai.embedded import broker, supervisor
from loopai.embedded.program import Program, Say
from streams import connection, ending, provision, store, topology

READY_S_MAX: Final = 30.0
POLL_S: Final = 0.05
GRACE_S: Final = 25.0
"""How long a child may take to finish what it has begun; above the 20 s that the ingress takes."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    http: str = settings.Settings().http
    """HOST:PORT; port 0 takes a free one."""
    grpc: str = settings.Settings().grpc
    """HOST:PORT for gRPC as well; empty: not served."""
    data_dir: Path = Path(settings.Settings().data_dir)
    workers: int = 1
    """Executors; of the other pools there is one each."""
    ingress: int = 1
    """Processes that serve HTTP; several share the port."""
    nats_port: int | None = 4222
    """None takes a free one."""
    sync: broker.Sync = "always"
    environment: dict[str, str] = {}
    """More LOOPAI_* variables for the children."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /health` answers, as far as it is needed here."""

    status: str
    checks: dict[str, str] = {}
    workers: dict[str, int] = {}


class Stack:
    """Use it as `async with`: inside, everything answers. The lines of all children go to *say*."""

    def __init__(self, options: Options, say: Say) -> None:
        host, port = settings.address(options.http, "--http")
        self._options = options
        self._settings = settings.read({**os.environ, **options.environment})
        self._requires_keys = msgspec.structs.replace(
            self._settings, http=options.http, grpc=options.grpc
        ).auth_required
        self.first_key: str | None = None
        """The key of an admin that was made because there was none; nobody can tell it again."""
        self._host, self._port = host, port
        self._say = say
        self._supervisor = supervisor.Supervisor(say)
        self._open = contextlib.ExitStack()
        self._broker = broker.Broker(
            options.data_dir / "nats", port=options.nats_port, sync=options.sync
        )

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def nats_url(self) -> str:
        return self._broker.url

    async def watch(self) -> None:
        """Wait until cancelled, while the supervisor keeps everything up."""
        await self._supervisor.watch()

    def kill(self) -> None:
        """End everything at once, without finishing what is under way."""
        self._supervisor.kill()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        try:
            await self._supervisor.stop(GRACE_S)
        except asyncio.CancelledError:
            # In a hurry now, but the caller may remove the data directory: leave nobody in it.
            self.kill()
            await self._supervisor.stop(GRACE_S)
            raise
        finally:
            self._open.close()

    async def _start(self) -> None:
        self._check_ports()
        self._lock()
        await self._supervisor.start(self._broker)
        await self._provision()
        environment = {
            **self._options.environment,
            "LOOPAI_HTTP": f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}",
            "LOOPAI_GRPC": self._options.grpc,
            "LOOPAI_HTTP_SHARED": str(self._options.ingress > 1).lower(),
            "LOOPAI_NATS_URL": self._broker.url,
            "LOOPAI_DATA_DIR": str(self._options.data_dir.resolve()),
            # Workers on one machine cannot share a port.
            "LOOPAI_METRICS": "",
        }
        executors = _numbered("executor", self._options.workers)
        pools = [
            Program(name, ("workers", name.partition("-")[0]), environment, self._say)
            for name in [*executors, "gateway", "generator", "recorder", "syncer", "notifier"]
        ]
        await self._supervisor.start(*pools)
        count = self._options.ingress
        ingresses = [
            Program(name, ("loopai.ingress",), environment, self._say)
            for name in (_numbered("ingress", count) if count > 1 else ["ingress"])
        ]
        await self._supervisor.start(*ingresses)
        await self._ready()
        self._supervisor.settle()

    def _check_ports(self) -> None:
        if self._options.grpc and not _is_free(*settings.address(self._options.grpc, "--grpc")):
            raise errors.StartupError(
                f"{self._options.grpc} is taken, so gRPC cannot be served; choose another with "
                "--grpc"
            )
        if self._port == 0:
            self._port = _free_port(self._host)
        elif not _is_free(self._host, self._port):
            raise errors.StartupError(
                f"port {self._port} is taken, so the API cannot listen; choose another with --http"
            )
        if self._options.nats_port and not _is_free(broker.HOST, self._options.nats_port):
            raise broker.taken(self._options.nats_port)

    def _lock(self) -> None:
        """Keep a second stack off the data directory until this one has stopped."""
        directory = self._options.data_dir
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = self._open.enter_context((directory / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.StartupError(
                f"another loopai uses {directory} already; stop it or choose another --data-dir"
            ) from error
        except OSError as error:
            raise errors.StartupError(
                f"the data directory {directory} cannot be written: {error.strerror}"
            ) from error

    async def _provision(self) -> None:
        wanted = topology.topology(execute_backlog_max=self._settings.execute_backlog_max)
        try:
            connected = await connection.connect(self._broker.url, name="loopai-dev")
            try:
                await provision.apply(connected, wanted)
                await self._forget(connected)
                if self._requires_keys:
                    self.first_key = await _first_key(connected)
            finally:
                await connected.close()
        except (
            connection.BrokerUnavailable,
            store.StoreUnavailable,
            topology.TopologyError,
        ) as error:
            raise errors.StartupError(str(error)) from error

    async def _forget(self, connected: connection.Connection) -> None:
        """Drop whoever was alive when this broker last ran: `_ready` must not count them.

        A stack that was killed could not sign its children off. Nobody lives here yet.
        """
        try:
            await connected.jetstream.purge_stream(topology.WORKERS.stream)
        except (nats.errors.Error, TimeoutError) as error:
            raise errors.StartupError(f"the broker does not answer: {error!r}") from error

    async def _ready(self) -> None:
        """Return when every pool is seen by /health; StartupError when a child ends before that."""
        healthy = asyncio.create_task(self._healthy())
        failing = asyncio.create_task(self._supervisor.watch())
        try:
            await asyncio.wait({healthy, failing}, return_when=asyncio.FIRST_COMPLETED)
            await (failing if failing.done() else healthy)
        finally:
            await ending.end(healthy, failing)

    async def _healthy(self) -> None:
        # Of several ingress processes any may answer, so each is counted where it shows itself.
        wanted = {
            "ingress": self._options.ingress,
            "executor": self._options.workers,
            "gateway": 1,
            "generator": 1,
            "recorder": 1,
            "syncer": 1,
            "notifier": 1,
        }
        last = "the API does not answer"
        end = time.monotonic() + READY_S_MAX
        # No proxy leads to this machine, whatever the environment says.
        async with httpx.AsyncClient(
            base_url=self.url, timeout=READY_S_MAX, trust_env=False
        ) as client:
            while time.monotonic() < end:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await client.get("/health")
                    last = _lacking(msgspec.json.decode(answer.content, type=Health), wanted)
                if not last:
                    return
                await asyncio.sleep(POLL_S)
        raise errors.StartupError(f"not ready within {READY_S_MAX:g} s: {last}")


async def _first_key(connected: connection.Connection) -> str | None:
    """A new key of an admin, if there is none that is valid: somebody has to make the others."""
    now = datetime.now(UTC)
    async with keys.Keyring(connected).opened() as ring:
        for key in await ring.of(keys.HOME):
            if "admin" in key.scopes and (keys.ended_at(key) or now) >= now:
                return None
        _, secret = await ring.create(
            tenant=keys.HOME, name="first", scopes=("admin",), created_by="dev", now=now
        )
        return secret


def _lacking(health: Health, wanted: dict[str, int]) -> str:
    """What *health* says is not there yet; empty when everything is."""
    pools = [
        f"{health.workers.get(pool, 0)} of {count} {pool}"
        for pool, count in wanted.items()
        if health.workers.get(pool, 0) < count
    ]
    checks = [f"{name} is {state}" for name, state in health.checks.items() if state != "ok"]
    return ", ".join(checks + pools)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(1, count + 1)]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. StartupError: *host* is not of this machine."""
    with socket.socket(_family(host)) as probe:
        # As servers do: connections that linger in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise errors.StartupError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --http"
            ) from error
    return True
