"""Every command against a running system: it asks what it is for, and `--json` is JSON."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.routing import Route
from structlog import testing

from loopai.embedded.broker import Broker
from loopai.ingress import access, resources
from loopai.ingress.describe import document
from streams import connection
from tests import commands
from tests.receiver import Receiver
from tests.system import System
from tests.wait import until
from workers import executor, generator, notifier, recorder

ELSEWHERE = {"dev", "demo", "doctor", "sandbox run", "sandbox doctor"}
"""Commands that need no API, or bring their own: `embedded` and `sandbox` have their tests."""
EXAMPLES = "hours,grade\n" + "\n".join(f"{at},{'pass' if at >= 50 else 'fail'}" for at in range(99))
SLOW = "def run(input):\n    while True:\n        pass\n"


@pytest.fixture
async def whole(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """All pools that an operation needs."""
    async with contextlib.AsyncExitStack() as stack:
        # In this process the workers' log would stand between the lines of the commands.
        stack.enter_context(testing.capture_logs())
        pools = (executor, generator, recorder, notifier)
        yield await System.started(
            stack, broker, bus, tmp_path / "data", pools, webhook_private="allowed"
        )


class Walk:
    """Calls commands, and keeps which routes each of them has asked."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._url = str(system.http.base_url)
        self.asked: dict[str, set[tuple[str, str]]] = {}
        self.in_json: set[str] = set()

    async def text(self, *arguments: str, code: int = 0) -> str:
        """What it prints for people. Colours and traces have no place in it."""
        before = self._counts()
        given, out, err = await commands.call(self._url, *arguments)
        assert given == code, (arguments, out, err)
        assert "Traceback" not in err
        words = self._words(arguments)
        if code == 0 and words in commands.COMMANDS.values():
            # A request is counted when its answer is out, which may be after it was read.
            # Some ask nothing, and the end of the walk says what was missing.
            with contextlib.suppress(AssertionError):
                await until(lambda: self._counts() != before, within_s=1)
        after = self._counts()
        new = {route for route, count in after.items() if count > before.get(route, 0)}
        self.asked.setdefault(words, set()).update(new)
        return out

    async def lines(self, *arguments: str, code: int = 0) -> list[Any]:
        """What `--json` prints, line by line: all of it is JSON."""
        out = await self.text(*arguments, "--json", code=code)
        assert out.endswith("\n"), arguments
        self.in_json.add(self._words(arguments))
        return [msgspec.json.decode(line) for line in out.splitlines()]

    async def json(self, *arguments: str, code: int = 0) -> Any:
        [found] = await self.lines(*arguments, code=code)
        return found

    def _words(self, arguments: tuple[str, ...]) -> str:
        known = commands.every_command()
        return next(words for words in (" ".join(arguments[:2]), arguments[0]) if words in known)

    def _counts(self) -> dict[tuple[str, str], float]:
        return {
            (sample.labels["route"], sample.labels["method"]): sample.value
            for family in self._system.services.metrics.registry.collect()
            if family.name == "loopai_http_requests"
            for sample in family.samples
            if sample.name.endswith("_total")
        }


def route(operation: str) -> tuple[str, str]:
    """What the metrics call the route of *operation*."""
    [of] = [each for each in document.OPERATIONS if each.id == operation]
    for prefix, routes in ((resources.PREFIX, resources.API), ("", resources.OUTSIDE)):
        for each in routes:
            assert isinstance(each, Route)
            if prefix + each.path == of.path and of.method in (each.methods or ()):
                return access.name(each), of.method
    raise AssertionError(operation)


async def test_every_command_does_what_it_is_for(whole: System, tmp_path: Path) -> None:
    """One after the other on one system: the API is asked what the table says."""
    walk = Walk(whole)
    async with Receiver() as receiver:
        await tasks(walk, tmp_path)
        await versions(walk, tmp_path)
        await executions(walk, whole, tmp_path)
        await webhooks(walk, receiver)
        await callers(walk)
        await state(walk, whole)
    assert await walk.text("task", "delete", "own", "--yes") == "own is deleted\n"

    for operation, words in commands.COMMANDS.items():
        assert route(operation) in walk.asked[words], (operation, words)
    wanted = {
        words for words, each in commands.every_command().items() if commands.takes_json(each)
    }
    assert walk.in_json == wanted - ELSEWHERE


async def tasks(walk: Walk, folder: Path) -> None:
    (folder / "examples.csv").write_text(EXAMPLES)
    schemas = ("--input-schema", '{"type": "object"}', "--output-schema", '{"type": "string"}')
    examples = ("--examples", str(folder / "examples.csv"))
    created = await walk.json("task", "create", "grade", *schemas, *examples)
    assert len(created["examples"]) == 99
    assert [each["name"] for each in (await walk.json("task", "list"))["tasks"]] == ["grade"]
    shown = await walk.json("task", "show", "grade")

    update = ("task", "update", "grade", "--accuracy-target", "0.8", "--description", "hours")
    stale = str(shown["revision"] + 9)
    await walk.text(*update, "--if-match", stale, code=1)
    changed = await walk.json(*update, "--if-match", str(shown["revision"]))
    assert (changed["accuracy_target"], changed["description"]) == (0.8, "hours")
    assert len(changed["examples"]) == 99
    await walk.text("task", "update", "grade", code=2)
    await walk.text("task", "delete", "grade", code=2)
    await walk.text("task", "delete", "grade", "--yes", "--if-match", stale, code=1)

    operation = (await walk.text("task", "generate", "grade", "--no-wait")).strip()
    stages = [each["status"] for each in await walk.lines("operation", "follow", operation)]
    assert stages[-1] == "succeeded"
    assert "succeeded" in await walk.text("operation", "follow", operation)
    assert (await walk.json("operation", "wait", operation))["id"] == operation
    assert (await walk.json("operation", "show", operation))["version"] == 1
    assert "succeeded" in await walk.text("operation", "show", operation)
    assert (await walk.json("task", "generate", "grade"))["version"] == 2


async def versions(walk: Walk, folder: Path) -> None:
    for number in (1, 2):
        (folder / f"{number}.py").write_text(f"def run(input):\n    return {number}\n")
    schemas = ("--input-schema", "{}", "--output-schema", "{}")
    await walk.text("task", "create", "own", *schemas)
    assert "no versions yet" in await walk.text("artifact", "list", "own")
    for number in (1, 2):
        upload = ("task", "upload", "own", str(folder / f"{number}.py"), "--no-activate")
        assert (await walk.json(*upload))["version"] == number
    listed = (await walk.json("artifact", "list", "own"))["artifacts"]
    assert {each["version"] for each in listed} == {1, 2}
    assert "validated" in await walk.text("artifact", "list", "own")
    assert (await walk.json("artifact", "show", "own", "2"))["code"].endswith("return 2\n")
    assert "validated" in await walk.text("artifact", "show", "own", "2")
    program = await walk.text("artifact", "program", "own", "2")
    assert program == (folder / "2.py").read_text()
    await walk.text("artifact", "show", "own", "9", code=1)

    assert (await walk.json("rollout", "activate", "own", "1"))["active"] == 1
    assert (await walk.json("rollout", "canary", "own", "2", "5"))["canary"]["version"] == 2
    assert (await walk.json("rollout", "promote", "own"))["active"] == 2
    assert (await walk.json("rollout", "rollback", "own"))["active"] == 1
    assert (await walk.json("rollout", "shadow", "own", "2"))["shadow"] == 2
    assert (await walk.json("rollout", "show", "own"))["active"] == 1


async def executions(walk: Walk, system: System, folder: Path) -> None:
    ran = await walk.json("run", "own", "0", "--routing-key", "a", "--timeout-ms", "30000")
    assert ran["output"] == 1
    once = ("run", "own", "0", "--idempotency-key", "k")
    assert (await walk.json(*once))["id"] == (await walk.json(*once))["id"]
    assert (await walk.json("run", "own", "0", "--no-wait"))["id"]
    queued = (await walk.text("run", "own", "0", "--no-wait")).strip()
    assert await walk.text("execution", "wait", queued) == "1\n"
    assert (await walk.json("execution", "wait", queued))["id"] == queued
    assert (await walk.json("execution", "show", queued))["input"] == 0
    assert (await walk.json("audit", "get", queued))["id"] == queued
    assert queued in await walk.text("execution", "show", queued)
    assert (await walk.lines("execution", "follow", queued))[-1]["status"] == "success"
    assert "success" in await walk.text("execution", "follow", queued)
    await walk.text("execution", "cancel", queued, code=1)
    tail = ("audit", "tail", "own", "--nats-url", system.broker.url, "--limit", "1")
    assert (await walk.json(*tail))["task"] == "own"

    await system.create("slow", SLOW)
    slow = (await walk.text("run", "slow", '"a"', "--no-wait", "--timeout-ms", "60000")).strip()
    await walk.text("execution", "wait", slow, "--timeout", "0", code=1)
    ended = await walk.json("execution", "cancel", slow, "--wait", "60")
    assert ended["status"] == "cancelled"
    await walk.text("execution", "wait", slow, code=1)
    await walk.text("execution", "follow", slow, code=1)

    (folder / "items.ndjson").write_text('{"input": 1}\n\n{"id": "b", "input": 2}\n')
    lines = await walk.lines("batch", "own", str(folder / "items.ndjson"))
    assert [each["id"] for each in lines[:2]] == ["1", "b"]
    assert lines[2]["summary"]["succeeded"] == 2


async def webhooks(walk: Walk, receiver: Receiver) -> None:
    create = ("webhook", "create", receiver.url, "--event", "execution.succeeded")
    made = await walk.json(*create, "--task", "own", "--description", "mine")
    webhook = made["id"]
    assert made["secret"].startswith("whsec_")
    assert receiver.url in await walk.text("webhook", "list")
    assert [each["id"] for each in (await walk.json("webhook", "list"))["webhooks"]] == [webhook]
    assert "secret" not in await walk.json("webhook", "show", webhook)
    update = ("webhook", "update", webhook)
    changed = await walk.json(
        *update, "--rotate-secret", "--all-tasks", "--event", "artifact.created"
    )
    assert changed["secret"] != made["secret"]
    assert (changed["task"], changed["events"]) == (None, ["artifact.created"])
    assert "disabled" in await walk.text(*update, "--disable")
    assert "enabled" in await walk.text(*update, "--enable", "--endpoint", f"{receiver.url}/new")
    await walk.text(*update, code=2)
    await walk.text(*update, "--event", "nothing", code=2)

    sent = (await walk.json("webhook", "ping", webhook))["id"]
    await until(lambda: [each.path for each in receiver.posts] == ["/new"])

    async def is_told() -> bool:
        found = (await walk.json("webhook", "deliveries", webhook))["deliveries"]
        return [each["status"] for each in found] == ["succeeded"]

    await until(is_told)
    assert sent in await walk.text("webhook", "deliveries", webhook)
    assert (await walk.json("webhook", "redeliver", webhook, sent))["id"] == sent
    await until(lambda: len(receiver.posts) == 2)
    await walk.text("webhook", "delete", webhook, code=2)
    await walk.text("webhook", "delete", webhook, "--yes")
    await walk.text("webhook", "show", webhook, code=1)


async def callers(walk: Walk) -> None:
    made = await walk.json("key", "create", "ci", "--scope", "execute")
    listed = (await walk.json("key", "list"))["keys"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert (await walk.json("key", "revoke", made["id"]))["revoked_at"]


async def state(walk: Walk, system: System) -> None:
    assert "queues" in await walk.json("queues")
    assert (await walk.json("sync", code=1))["sites"] == []
    assert (await walk.json("top", "--count", "1"))["health"]["workers"]["executor"] == 1
    assert (await walk.json("health"))["status"] == "healthy"
    assert "1 running" in await walk.text("health")
    await system.stop_pool(recorder)

    async def is_degraded() -> bool:
        return bool((await system.http.get("/health")).json()["status"] == "degraded")

    await until(is_degraded)
    assert "degraded" in await walk.text("health", code=1)
