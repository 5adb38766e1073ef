"""Health, readiness and metrics, and what becomes of the ingress when its broker goes."""

import asyncio
from typing import Any

from prometheus_client import parser

from streams import ids
from tests.integration.ingress.problems import problem
from tests.system import System
from tests.wait import until
from workers import notifier


async def _metrics(system: System) -> dict[str, float]:
    """Every sample by its name and labels."""
    answer = await system.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(parser.text_string_to_metric_families(answer.text))
    assert all(each.documentation for each in families)
    return {
        f"{each.name}{sorted(each.labels.items())}": each.value
        for family in families
        for each in family.samples
    }


async def test_health_names_what_is_missing(front: System) -> None:
    """Without workers the whole is degraded, but requests are accepted: ready and alive."""
    health = await front.http.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert health.json()["checks"] == {"broker": "ok"}
    assert health.json()["workers"] == {
        "ingress": 0, "executor": 0, "generator": 0, "recorder": 0, "gateway": 0,
        "syncer": 0, "notifier": 0
    }  # fmt: skip
    assert (await front.http.get("/health/ready")).json()["status"] == "ready"
    assert (await front.http.get("/health/live")).json()["status"] == "alive"


async def test_without_a_notifier_webhooks_are_taken_and_not_served(system: System) -> None:
    """That is degraded as well; the last pool that was missing makes it healthy."""

    async def told() -> dict[str, Any]:
        found: dict[str, Any] = (await system.http.get("/health")).json()
        return found

    async def others_are_there() -> bool:
        return bool((await told())["workers"]["recorder"])

    async def is_healthy() -> bool:
        return bool((await told())["status"] == "healthy")

    await until(others_are_there)
    assert (await told())["status"] == "degraded"
    await system.start_pool(notifier)
    await until(is_healthy)


async def test_metrics_count_what_happened(system: System) -> None:
    """Executions by status, requests by route, messages and items published; nobody waiting."""
    await system.create()
    for value in ("a", "b"):
        await system.execute(value)
    await system.execute(7)
    await system.http.post(
        "/api/v1/batch/execute", json={"task_id": "upper", "items": [{"input": "c"}] * 10}
    )
    samples = await _metrics(system)
    assert samples["loopai_executions_total[('status', 'success')]"] == 12
    assert samples["loopai_publish_items[]"] == 12
    assert 3 <= samples["loopai_publish_batches[]"] <= 12
    assert samples["loopai_executions_waiting[]"] == 0
    route = "('method', 'POST'), ('route', 'execute.execute'), ('status', "
    assert samples[f"loopai_http_requests_total[{route}'200')]"] == 2
    assert samples[f"loopai_http_requests_total[{route}'422')]"] == 1


async def test_labels_stay_few_whatever_callers_ask(front: System) -> None:
    """Paths, names, ids and methods of callers are no labels: a scan costs no memory."""
    await front.create()

    async def ask(number: int) -> None:
        for method, path in (
            ("GET", f"/{number}"),
            ("GET", f"/api/v1/tasks/{number}"),
            ("GET", f"/api/v1/executions/{number}"),
            ("PROPFIND", f"/api/v1/{number}"),
            ("MKCOL", "/health"),
        ):
            await front.http.request(method, path)

    await ask(0)
    before = set(await _metrics(front))
    await asyncio.gather(*(ask(number) for number in range(1, 40)))
    assert set(await _metrics(front)) - before <= {
        each for each in await _metrics(front) if "health.metrics" in each
    }
    assert not [each for each in before if "PROPFIND" in each or "MKCOL" in each]


async def test_an_outage_of_the_broker_ends_with_it(system: System) -> None:
    """Ready says 503 and every request is a 503 problem; when the broker is back, all works.

    Long enough that requests for work are given up: no message goes to an inbox that nobody reads.
    """
    await system.create()
    await system.execute("warm")
    await system.broker.stop()
    ready = await system.http.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    assert (await system.http.get("/health")).json()["checks"]["broker"] != "ok"
    assert (await system.http.get("/health/live")).status_code == 200
    answers = await asyncio.gather(
        system.http.get("/api/v1/tasks/nobody"),
        system.http.get("/api/v1/tasks"),
        system.http.post("/api/v1/tasks", json={"name": "new"}),
        system.http.get(f"/api/v1/executions/{ids.new()}"),
        system.http.get(f"/api/v1/operations/{ids.new()}"),
        system.execute("a"),
    )
    for answer in answers:
        problem(answer, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
    assert ids.is_id(answers[-1].json()["execution_id"])
    await system.broker.start()
    async with asyncio.timeout(8):
        while (await system.http.get("/health/ready")).status_code != 200:
            pass
        for value in ("a", "b", "c"):
            assert (await system.execute(value)).json()["output"] == value.upper()
