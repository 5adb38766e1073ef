"""What runs the attacks: the pool of a worker, or the product over HTTP."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import msgspec

from loopai.embedded.broker import Broker
from loopai.sandbox import limits, pool, program
from streams import connection, messages, provision, topology
from tests.sandbox.attacks.attack import Attack
from tests.system import System

CELLS_MAX = 3
"""The neighbour's, that of ATTEMPTS, and one for attacks that need their own."""
KINDS = frozenset({"killed", "lost", "out_of_memory", "output_too_large", "invalid_result"})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended, alike for all targets."""

    kind: str
    value: Any = None
    error_type: str = ""
    message: str = ""


class Target(Protocol):
    """Runs programs of two tenants, or of two tasks."""

    async def load(self, attack: Attack) -> str:
        """Why the program of *attack* is not taken in; empty where it is."""

    async def attack(self, attack: Attack, value: object) -> Answer:
        """Call the program of *attack*."""

    async def neighbour(self, code: str, value: object) -> Answer:
        """Call *code*, which is another's."""

    async def ailments(self) -> list[str]:
        """What it says of its own health."""


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


class PoolTarget:
    """A CellPool of this process, at one level of isolation."""

    def __init__(self, cells: pool.CellPool, isolation: messages.Isolation) -> None:
        self._cells = cells
        self._isolation = isolation

    async def load(self, attack: Attack) -> str:
        try:
            await self._cells.load(self._program(attack))
        except program.LoadError as error:
            return str(error)
        return ""

    async def attack(self, attack: Attack, value: object) -> Answer:
        return await self._call(self._program(attack), value, attack.timeout_ms)

    async def neighbour(self, code: str, value: object) -> Answer:
        one = program.Program(tenant="neighbour", digest=_digest(code), code=code)
        return await self._call(one, value, 10_000)

    async def ailments(self) -> list[str]:
        return []

    def _program(self, attack: Attack) -> program.Program:
        return program.Program(
            tenant="attacker",
            digest=_digest(attack.program),
            code=attack.program,
            isolation=self._isolation,
            language=attack.language,
        )

    async def _call(self, one: program.Program, value: object, timeout_ms: float) -> Answer:
        (ended,) = await self._cells.run(one, [msgspec.json.encode(value)], [timeout_ms])
        return Answer(
            kind=ended.kind,
            value=None if ended.output is None else json.loads(ended.output),
            error_type=ended.error_type,
            message=ended.message,
        )


class HttpTarget:
    """The product in this process, spoken to as its users do: a task for each program."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._tasks: dict[str, str] = {}

    async def load(self, attack: Attack) -> str:
        return await self._upload(attack.program, attack.language)

    async def attack(self, attack: Attack, value: object) -> Answer:
        await self._upload(attack.program, attack.language)
        # Part of it may pass on the way to the worker.
        timeout_ms = int(attack.timeout_ms) + 350
        return await self._call(attack.program, value, timeout_ms)

    async def neighbour(self, code: str, value: object) -> Answer:
        await self._upload(code, "python")
        return await self._call(code, value, 10_000)

    async def ailments(self) -> list[str]:
        health = await self._system.http.get("/health")
        ready = await self._system.http.get("/health/ready")
        # The parts of this process do not announce themselves as processes of workers do.
        well = health.status_code == ready.status_code == 200
        if well and health.json()["checks"] == {"broker": "ok"}:
            return []
        return [f"unwell: {health.text} {ready.text}"]

    async def _upload(self, code: str, language: str) -> str:
        if code in self._tasks:
            return ""
        name = f"task-{_digest(code)[:16]}"
        body = {"name": name, "input_schema": {}, "output_schema": {}}
        created = await self._system.http.post("/api/v1/tasks", json=body)
        created.raise_for_status()
        answer = await self._system.http.post(
            f"/api/v1/tasks/{name}/artifacts",
            json={"language": language, "code": code, "activate": True},
        )
        if answer.status_code == 422:
            return str(answer.json()["detail"])
        answer.raise_for_status()
        self._tasks[code] = name
        return ""

    async def _call(self, code: str, value: object, timeout_ms: int) -> Answer:
        answer = await self._system.http.post(
            f"/api/v1/tasks/{self._tasks[code]}/execute",
            json={"input": msgspec.to_builtins(value), "timeout_ms": timeout_ms},
        )
        if answer.status_code != 200:
            return Answer(kind=f"HTTP {answer.status_code}", message=answer.text[:500])
        return _told(answer.json())


def _told(record: Mapping[str, Any]) -> Answer:
    if record["status"] == "success":
        return Answer(kind="success", value=record["output"])
    error = record["error"]
    kind = record["status"]
    if kind == "error":
        kind = error.get("outcome") or (error["type"] if error["type"] in KINDS else "error")
    return Answer(kind=kind, error_type=error["type"], message=error["message"])


@contextlib.asynccontextmanager
async def pool_opened(
    isolation: messages.Isolation, bounds: limits.Limits
) -> AsyncIterator[PoolTarget]:
    cells = pool.CellPool(bounds, cells_max=CELLS_MAX)
    try:
        yield PoolTarget(cells, isolation)
    finally:
        await cells.close()


@contextlib.asynccontextmanager
async def http_opened(folder: pathlib.Path, bounds: limits.Limits) -> AsyncIterator[HttpTarget]:
    """A broker, the ingress and one worker of each kind."""
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(folder / "nats", sync="default"))
        bus = await connection.connect(broker.url, name="test")
        stack.push_async_callback(bus.close)
        await provision.apply(bus, topology.topology())
        system = await System.started(
            stack,
            broker,
            bus,
            folder / "data",
            cells_max=CELLS_MAX,
            cell_memory_bytes_max=bounds.memory_bytes_max,
            run_ms_max=10_000,
        )
        yield HttpTarget(system)
