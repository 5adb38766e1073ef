"""The published client of the original project keeps working: its requests, byte for byte.

It sends camelCase with every field it knows, null where it has nothing to say, and reads the names
that are looked for here, all ids as UUIDs.
"""

import uuid
from datetime import datetime
from typing import Any

import msgspec

from tests.integration.ingress.sockets import Wire
from tests.system import UPPER, System
from tests.wait import until
from workers import notifier

HEADERS = (
    "Host: localhost:8080\r\n"
    "Accept: application/json\r\n"
    "User-Agent: Loopai.Client/0.1\r\n"
    "Content-Type: application/json; charset=utf-8\r\n"
)
CREATE = b"""\
{"name":"shout","description":"Says it louder","inputSchema":{"type":"string"},\
"outputSchema":{"type":"string"},"examples":[{"input":"a","output":"A"}],"accuracyTarget":0.95,\
"latencyTargetMs":10,"samplingRate":0.1}"""
EXECUTE = b"""\
{"taskId":"%s","version":null,"input":"caf\xc3\xa9","forceValidation":false,"timeoutMs":null}"""
BATCH = b"""\
{"taskId":"%s","version":null,"items":[{"id":"0","input":"a","forceValidation":false},\
{"id":"1","input":"b","forceValidation":true}],"maxConcurrency":10,"stopOnFirstError":false,\
"timeoutMs":30000}"""


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\n{HEADERS}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _said(system: System, status: int, said: bytes) -> dict[str, Any]:
    async with Wire(system) as wire:
        reply = await wire.say(said)
    assert reply.status == status, reply
    assert reply.headers["content-type"].startswith("application/json")
    decoded: dict[str, Any] = msgspec.json.decode(reply.body)
    return decoded


async def _shout(system: System) -> str:
    task = await _said(system, 201, request("POST", "/api/v1/tasks", CREATE))
    assert (task["name"], task["accuracy_target"]) == ("shout", 0.95)
    assert task["latency_target_ms"] == 10
    assert task["examples"] == [{"input": "a", "output": "A"}]
    assert str(uuid.UUID(task["id"])) == task["id"]
    await system.store(task["id"], UPPER)
    return str(task["id"])


async def test_a_task_is_executed(system: System) -> None:
    """It makes a task, has it run, and reads what became of it."""
    task_id = await _shout(system)
    body = EXECUTE % task_id.encode()
    ran = await _said(system, 200, request("POST", "/api/v1/tasks/execute", body))
    for name in ("id", "task_id", "program_id"):
        assert str(uuid.UUID(ran[name])) == ran[name]
    assert ran["task_id"] == task_id
    assert (ran["version"], ran["output"], ran["status"]) == (1, "CAFÉ", "success")
    assert isinstance(ran["latency_ms"], float)
    assert ran["sampled_for_validation"] is False
    assert datetime.fromisoformat(ran["executed_at"]).tzinfo is not None


async def test_a_batch_is_executed(system: System) -> None:
    """Its items come back under the ids that it gave them."""
    task_id = await _shout(system)
    body = BATCH % task_id.encode()
    ran = await _said(system, 200, request("POST", "/api/v1/batch/execute", body))
    uuid.UUID(ran["batch_id"])
    assert ran["task_id"] == task_id
    assert [(each["id"], each["output"]) for each in ran["results"]] == [("0", "A"), ("1", "B")]
    assert [each["sampled_for_validation"] for each in ran["results"]] == [False, True]
    for each in ran["results"]:
        uuid.UUID(each["execution_id"])
        assert each["version"] == 1
        assert each["latency_ms"] > 0


async def test_health_is_read(system: System) -> None:
    """Its way to see that the server is there."""
    await system.start_pool(notifier)

    async def is_healthy() -> bool:
        return bool((await system.http.get("/health")).json()["status"] == "healthy")

    await until(is_healthy)
    health = await _said(system, 200, request("GET", "/health"))
    assert health["status"] == "healthy"
    assert health["version"]
    assert datetime.fromisoformat(health["timestamp"]).tzinfo is not None


async def test_what_is_wrong_is_told_in_its_terms(system: System) -> None:
    """An unknown task is a 404 with a document that any client of RFC 9457 reads."""
    async with Wire(system) as wire:
        body = EXECUTE % str(uuid.uuid4()).encode()
        (await wire.say(request("POST", "/api/v1/tasks/execute", body))).problem("TASK_NOT_FOUND")
