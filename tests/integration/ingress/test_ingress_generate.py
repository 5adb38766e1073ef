"""Generations: ordered, watched, looked up; drafts that say why; failures with a code."""

import asyncio
import random
from typing import Any

import pytest

from streams import ids
from tests.integration.ingress.problems import paths, problem
from tests.system import System
from workers import generator

GENERATE = "/api/v1/tasks/kind/generate"
ENDED = ("succeeded", "failed")


def _examples(count: int, *, learnable: bool) -> list[dict[str, Any]]:
    """Numbers and whether they are large, or labels drawn by lot."""
    drawn = random.Random(7)  # noqa: S311 (no secret)
    values = [drawn.uniform(0, 100) for _ in range(count)]
    return [
        {
            "input": {"size": value},
            "output": ("large" if value > 50 else "small") if learnable else drawn.choice("ab"),
        }
        for value in values
    ]


async def _task(system: System, examples: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    body = {"name": "kind", "examples": examples, **fields}
    answer = await system.http.post("/api/v1/tasks", json=body)
    created: dict[str, Any] = answer.raise_for_status().json()
    return created


@pytest.fixture
async def generating(front: System) -> System:
    """`front` with a generator behind it."""
    await front.start_pool(generator)
    return front


async def test_a_generated_program_is_proven_and_active(system: System) -> None:
    """Examples in, an evaluated and active version out, which answers the next execution."""
    await _task(system, _examples(120, learnable=True))
    answer = await system.http.post(GENERATE, params={"wait": "60"})
    operation = answer.json()
    assert answer.status_code == 200
    assert answer.headers["location"] == f"/api/v1/operations/{operation['id']}"
    assert (operation["status"], operation["activated"], operation["error"]) == (
        "succeeded",
        True,
        None,
    )
    artifact = (await system.http.get("/api/v1/tasks/kind/artifacts/1")).json()
    assert artifact["status"] == "active"
    assert artifact["evaluation"]["held_out_accuracy"] >= 0.9
    assert artifact["confidence_score"] == artifact["evaluation"]["lower_bound"] < 1
    for size, label in ((90, "large"), (10, "small")):
        executed = await system.execute({"size": size}, "kind")
        assert executed.json()["output"] == label, executed.text


async def test_the_same_seed_gives_the_same_program(generating: System) -> None:
    """Generation can be repeated: equal examples and seeds give equal digests."""
    await _task(generating, _examples(60, learnable=True))
    for body in ({"seed": 3, "activate": False}, {"seed": 3, "activate": False}, b""):
        kind = "content" if isinstance(body, bytes) else "json"
        answer = await generating.http.post(GENERATE, params={"wait": "60"}, **{kind: body})
        assert answer.json()["status"] == "succeeded", answer.text
    listed = (await generating.http.get("/api/v1/tasks/kind/artifacts")).json()["artifacts"]
    digests = {each["version"]: each["digest"] for each in listed}
    assert digests[1] == digests[2]
    assert [each["status"] for each in listed] == ["active", "validated", "validated"]


async def test_below_the_target_it_stays_a_draft_and_says_why(generating: System) -> None:
    """Labels drawn by lot cannot be learned: a draft, with its score, its target and an example."""
    await _task(generating, _examples(100, learnable=False))
    operation = (await generating.http.post(GENERATE, params={"wait": "60"})).json()
    assert (operation["status"], operation["activated"]) == ("succeeded", False)
    for words in ("held-out examples answered right", "below the target of 90.0%", "For instance"):
        assert words in operation["message"]
    artifact = (await generating.http.get("/api/v1/tasks/kind/artifacts/1")).json()
    assert artifact["status"] == "draft"
    assert artifact["status_reason"] == operation["message"]
    refused = await generating.http.post("/api/v1/tasks/kind/artifacts/1/activate")
    assert "draft" in problem(refused, "ARTIFACT_NOT_ACTIVATABLE")["detail"]
    problem(await generating.execute({"size": 1}, "kind"), "NO_ACTIVE_VERSION")


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_too_few_examples_fail_the_operation_with_a_code(
    generating: System, count: int
) -> None:
    """What cannot be learned from ends as failed, with a code and a sentence, and no version."""
    await _task(generating, _examples(count, learnable=True))
    operation = (await generating.http.post(GENERATE, params={"wait": "60"})).json()
    assert operation["status"] == "failed"
    assert operation["error"]["code"] == "TOO_FEW_EXAMPLES"
    assert operation["error"]["message"] == operation["message"] != ""
    artifacts = await generating.http.get("/api/v1/tasks/kind/artifacts")
    assert artifacts.json() == {"artifacts": []}


async def test_a_generation_is_accepted_and_looked_up(front: System) -> None:
    """202 at once; queued while nobody works; the lookup waits as long as it is told."""
    await _task(front, _examples(60, learnable=True))
    answer = await front.http.post(GENERATE)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    location = answer.headers["location"]
    waited = await front.http.post(GENERATE, params={"wait": "0.1"})
    assert (waited.status_code, waited.json()["status"]) == (202, "queued")
    looked_up = await front.http.get(location, params={"wait": "0.1"})
    assert (looked_up.status_code, looked_up.json()["status"]) == (200, "queued")
    waiting = asyncio.create_task(front.http.get(location, params={"wait": "60"}))
    await front.start_pool(generator)
    assert (await waiting).json()["status"] == "succeeded"


async def test_a_generation_for_a_deleted_task_fails(front: System) -> None:
    """Neither the gone task nor a new one of its name gets a version."""
    await _task(front, _examples(60, learnable=True))
    location = (await front.http.post(GENERATE)).headers["location"]
    await front.http.delete("/api/v1/tasks/kind")
    await _task(front, [])
    await front.start_pool(generator)
    operation = (await front.http.get(location, params={"wait": "60"})).json()
    assert (operation["status"], operation["error"]["code"]) == ("failed", "TASK_NOT_FOUND")
    assert (await front.http.get("/api/v1/tasks/kind/artifacts")).json() == {"artifacts": []}


async def test_orders_of_a_wrong_form_are_refused(front: System) -> None:
    """Unknown engines, seeds out of range and waits that are none never become an operation."""
    await _task(front, [])
    for body, path in (
        ({"engine": "magic"}, "/engine"),
        ({"seed": -1}, "/seed"),
        ({"seed": 2**32}, "/seed"),
        ({"seed": 1.5}, "/seed"),
        ({"activate": "yes"}, "/activate"),
        ({"speed": 1}, ""),
        ([], ""),
    ):
        document = problem(await front.http.post(GENERATE, json=body), "INVALID_REQUEST")
        assert paths(document) == [path], body
    problem(await front.http.post(GENERATE, content=b"{"), "MALFORMED_JSON")
    for wait in ("-1", "nan", "301", "soon"):
        answer = await front.http.post(GENERATE, params={"wait": wait})
        problem(answer, "INVALID_QUERY")
    problem(await front.http.post("/api/v1/tasks/nobody/generate"), "TASK_NOT_FOUND")
    assert (await front.bus.jetstream.stream_info("GENERATE")).state.messages == 0


async def test_a_refused_generation_leaves_no_operation(front: System) -> None:
    """With a hundred in the queue the next is a 503, and no operation waits for it for ever."""
    await _task(front, [])
    answers = await asyncio.gather(*(front.http.post(GENERATE) for _ in range(101)))
    refused = [each for each in answers if each.status_code != 202]
    assert len(refused) == 1
    problem(refused[0], "BACKLOG_FULL")
    assert int(refused[0].headers["retry-after"]) >= 1
    accepted = {each.json()["id"] for each in answers if each.status_code == 202}
    left = set()
    async for change in front.services.operations.watch():
        if change is None:
            break
        if change.value is not None:
            left.add(change.key)
    assert left == accepted


async def test_operations_that_are_not_there_are_not_found(front: System) -> None:
    """Any text in the place of an operation's id is a 404."""
    for each in ("nope", "*", "%3E", "%00", ids.new(), "ffffffff-ffff-7fff-bfff-ffffffffffff"):
        problem(await front.http.get(f"/api/v1/operations/{each}?wait=1"), "OPERATION_NOT_FOUND")
