"""The product when its store fails: what is known runs on, what is new is refused and can wait."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loopai.catalog.stores import store
from loopai.embedded.broker import Broker
from streams import connection, consumer, topology
from tests import stores
from tests.integration.ingress.problems import problem
from tests.system import TEXT, UPPER, System
from workers import executor, generator, recorder

ARTIFACTS = "/api/v1/tasks/upper/artifacts"
LOWER = "def run(input):\n    return input.lower()\n"
EXAMPLES = [{"input": {"n": n}, "output": "big" if n > 30 else "small"} for n in range(60)]


@pytest.fixture
async def endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[stores.Endpoint]:
    stores.credentials(monkeypatch)
    async with stores.endpoint(tmp_path / "s3") as started:
        yield started


@pytest.fixture
async def remote(
    broker: Broker, bus: connection.Connection, tmp_path: Path, endpoint: stores.Endpoint
) -> AsyncIterator[System]:
    """The product with its texts at `endpoint`."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(
            stack, broker, bus, tmp_path / "data", store_url=endpoint.store_url()
        )


@pytest.fixture
async def small(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[tuple[System, Path]]:
    """The product with its texts on a disk of a megabyte."""
    with stores.mounted(tmp_path / "volume", "size=1m") as folder:
        async with contextlib.AsyncExitStack() as stack:
            system = await System.started(
                stack,
                broker,
                bus,
                tmp_path / "data",
                pools=(executor, recorder),
                store_url=folder.as_uri(),
            )
            yield system, folder


async def _versions(system: System) -> list[int]:
    listed = (await system.http.get(ARTIFACTS)).json()["artifacts"]
    return [each["version"] for each in listed]


async def _generation(system: System, *, delivered: int = 0) -> dict[str, Any]:
    """An order to generate that was delivered so many times already."""
    body = {"name": "size", "examples": EXAMPLES, "output_schema": TEXT}
    (await system.http.post("/api/v1/tasks", json=body)).raise_for_status()
    await system.stop_pool(generator)
    ordered = (await system.http.post("/api/v1/tasks/size/generate")).raise_for_status().json()
    for _ in range(delivered):
        async with consumer.Consumer(system.bus, topology.GENERATOR, slots=1) as taken:
            await (await anext(aiter(taken))).nak(0)
    decoded: dict[str, Any] = ordered
    return decoded


async def _without_memory(system: System) -> None:
    """An executor that asks the store each time."""
    await system.stop_pool(executor)
    await system.start_pool(executor, cache_bytes_max=1)


async def test_with_s3_gone_what_is_known_runs_and_what_is_new_is_refused(
    remote: System, endpoint: stores.Endpoint
) -> None:
    """503 and Retry-After; nothing is listed; the same upload is version 2 once S3 is back."""
    await remote.create()
    assert (await remote.execute("known")).json()["output"] == "KNOWN"
    await endpoint.stop()
    refused = await remote.http.post(ARTIFACTS, json={"code": LOWER, "activate": True})
    document = problem(refused, "STORE_UNAVAILABLE")
    assert f"127.0.0.1:{endpoint.port}" in document["detail"]
    assert refused.headers["retry-after"] == "5"
    assert await _versions(remote) == [1]
    assert (await remote.http.get(f"{ARTIFACTS}/1/program")).text == UPPER
    assert (await remote.execute("still")).json()["output"] == "STILL"
    await endpoint.start()
    accepted = await remote.http.post(ARTIFACTS, json={"code": LOWER, "activate": True})
    assert accepted.json()["version"] == 2
    assert (await remote.execute("BACK")).json()["output"] == "back"


async def test_an_unread_program_is_told_to_its_caller_and_recorded(
    remote: System, endpoint: stores.Endpoint
) -> None:
    """In no memory and not to be had: rejected with the code after five deliveries; no letter."""
    await _without_memory(remote)
    await remote.create()
    await endpoint.stop()
    ended = (await remote.execute("new", timeout_ms=60_000)).json()
    assert (ended["status"], ended["error"]["type"]) == ("rejected", "STORE_UNAVAILABLE")
    recorded = (await remote.http.get(f"/api/v1/executions/{ended['id']}")).json()
    assert (recorded["attempt"], recorded["input"]) == (topology.MAX_DELIVER, "new")
    assert (await remote.bus.jetstream.stream_info("DEAD")).state.messages == 0
    await endpoint.start()
    assert (await remote.execute("again")).json()["output"] == "AGAIN"


async def test_a_store_that_comes_back_in_between_is_not_noticed(
    remote: System, endpoint: stores.Endpoint
) -> None:
    """The execution is delivered again, and the caller has its output."""
    await _without_memory(remote)
    await remote.create()
    await endpoint.stop()
    ordered = await remote.http.post(
        "/api/v1/tasks/upper/execute?wait=0", json={"input": "late", "timeout_ms": 60_000}
    )
    await endpoint.start()
    ended = await remote.http.get(f"{ordered.headers['location']}?wait=60")
    assert ended.json()["output"] == "LATE"


async def test_a_generation_waits_for_a_store_that_comes_back(
    remote: System, endpoint: stores.Endpoint
) -> None:
    """What was generated while S3 was away is tried again, and ends well."""
    operation = await _generation(remote)
    await remote.start_pool(generator)
    await endpoint.stop()
    looked_up = await remote.http.get(f"/api/v1/operations/{operation['id']}?wait=8")
    assert looked_up.json()["status"] == "running"
    await endpoint.start()
    ended = (await remote.http.get(f"/api/v1/operations/{operation['id']}?wait=60")).json()
    assert (ended["status"], ended["version"]) == ("succeeded", 1)


async def test_a_generation_that_cannot_store_its_program_fails_with_the_code(
    remote: System, endpoint: stores.Endpoint
) -> None:
    """On its last delivery: whoever waits is told why, and no version is left."""
    operation = await _generation(remote, delivered=topology.MAX_DELIVER - 1)
    await remote.start_pool(generator)
    await endpoint.stop()
    ended = (await remote.http.get(f"/api/v1/operations/{operation['id']}?wait=60")).json()
    assert (ended["status"], ended["error"]["code"]) == ("failed", "STORE_UNAVAILABLE")
    assert f"127.0.0.1:{endpoint.port}" in ended["message"]
    listed = await remote.http.get("/api/v1/tasks/size/artifacts")
    assert listed.json() == {"artifacts": []}
    assert (await remote.bus.jetstream.stream_info("DEAD")).state.messages == 0


async def test_a_full_disk_refuses_what_is_new_and_breaks_nothing(
    small: tuple[System, Path],
) -> None:
    """503 while there is no room; what is known runs; with room the next upload is version 2."""
    system, folder = small
    await system.create()
    with stores.filled(folder):
        refused = await system.http.post(ARTIFACTS, json={"code": LOWER, "activate": True})
        assert "No space left on device" in problem(refused, "STORE_UNAVAILABLE")["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert await _versions(system) == [1]
        assert (await system.execute("known")).json()["output"] == "KNOWN"
    for path in folder.glob("by-digest/*/*"):
        assert store.matches(path.read_bytes(), path.name)
    accepted = await system.http.post(ARTIFACTS, json={"code": LOWER, "activate": True})
    assert accepted.json()["version"] == 2
    assert (await system.execute("ROOM")).json()["output"] == "room"
    assert (folder / "default/upper/active/program.py").read_text() == LOWER
    assert (folder / "default/upper/v1/program.py").read_text() == UPPER
