"""`/tasks/{task}/rollout`: what may be asked of it, what is refused, and who was first."""

import asyncio
from typing import Any

import pytest

from tests.integration.ingress.problems import paths, problem
from tests.system import UPPER, System

ROLLOUT = "/api/v1/tasks/upper/rollout"
ROLES: list[dict[str, Any]] = [
    {"active": 99},
    {"canary": {"version": 99, "percent": 5}},
    {"shadow": 99},
]


async def _versions(front: System, count: int) -> dict[str, Any]:
    """A task with so many versions, the first of them active."""
    task = await front.create()
    for number in range(2, count + 1):
        await front.store(task["id"], f"# {number}\n{UPPER}", activate=False)
    return task


async def _put(front: System, **asked: Any) -> Any:
    return await front.http.put(ROLLOUT, json=asked)


async def test_a_rollout_is_read_and_changed(front: System) -> None:
    """Absent fields stay, null removes; every answer has the document and its revision."""
    task = await _versions(front, 3)
    first = await front.http.get(ROLLOUT)
    assert first.status_code == 200
    assert (first.json()["task_id"], first.json()["active"]) == (task["id"], 1)

    canary = (await _put(front, canary={"version": 2, "percent": 12.345})).json()
    assert (canary["active"], canary["shadow"]) == (1, None)
    assert (canary["canary"]["version"], canary["canary"]["percent"]) == (2, 12.35)
    both = (await _put(front, shadow=3)).json()
    assert (both["canary"], both["shadow"]) == (canary["canary"], 3)
    without = await _put(front, canary=None)
    assert (without.json()["canary"], without.json()["shadow"]) == (None, 3)
    last = await _put(front, active=2, shadow=None)
    assert (last.json()["active"], last.json()["shadow"]) == (2, None)

    read = await front.http.get(f"/api/v1/tasks/{task['id']}/rollout")
    assert read.json() == last.json()
    assert read.headers["etag"] == last.headers["etag"] != without.headers["etag"]
    lines = [(c["action"], c["version"], c["by"]) for c in read.json()["history"]]
    assert lines == [
        ("activate", 1, "test"),
        ("canary", 2, "api"),
        ("shadow", 3, "api"),
        ("canary_off", 2, "api"),
        ("activate", 2, "api"),
        ("shadow_off", 3, "api"),
    ]


async def test_a_task_without_versions_has_an_empty_rollout(front: System) -> None:
    """It can be read, and says that nothing is active; its first activation may insist on that."""
    await front.http.post("/api/v1/tasks", json={"name": "upper"})
    answer = await front.http.get(ROLLOUT)
    assert (answer.status_code, answer.json()["active"]) == (200, None)
    task_id = answer.json()["task_id"]
    await front.store(task_id, UPPER, activate=False)
    headers = {"If-Match": answer.headers["etag"]}
    first = await front.http.put(ROLLOUT, json={"active": 1}, headers=headers)
    assert first.json()["active"] == 1
    problem(
        await front.http.put(ROLLOUT, json={"active": 1}, headers=headers), "PRECONDITION_FAILED"
    )


async def test_promotion_and_rollback(front: System) -> None:
    """The canary takes over, and the way back leads to what was there before, and no further."""
    await _versions(front, 2)
    problem(await front.http.post(f"{ROLLOUT}/promote"), "NO_CANARY")
    problem(await front.http.post(f"{ROLLOUT}/rollback"), "NO_PREVIOUS_VERSION")
    await _put(front, canary={"version": 2, "percent": 5})
    promoted = await front.http.post(f"{ROLLOUT}/promote")
    assert (promoted.json()["active"], promoted.json()["canary"]) == (2, None)
    back = await front.http.post(f"{ROLLOUT}/rollback")
    assert back.json()["active"] == 1
    assert back.headers["etag"] == (await front.http.get(ROLLOUT)).headers["etag"]
    problem(await front.http.post(f"{ROLLOUT}/rollback"), "NO_PREVIOUS_VERSION")


@pytest.mark.parametrize("asked", ROLES)
async def test_versions_that_are_not_there_are_refused(
    front: System, asked: dict[str, Any]
) -> None:
    """In every role; and nothing has changed then."""
    await _versions(front, 1)
    before = (await front.http.get(ROLLOUT)).json()
    document = problem(await _put(front, **asked), "ARTIFACT_NOT_FOUND")
    assert "99" in document["detail"]
    assert (await front.http.get(ROLLOUT)).json() == before


@pytest.mark.parametrize("percent", [0, -1, 0.001, 100.01, 1e300])
async def test_shares_out_of_range_are_refused(front: System, percent: float) -> None:
    """With the place in the body; the least and the most that there are are taken."""
    await _versions(front, 2)
    document = problem(
        await _put(front, canary={"version": 2, "percent": percent}), "INVALID_REQUEST"
    )
    assert paths(document) == ["/canary/percent"]
    for taken in (0.01, 100):
        answer = await _put(front, canary={"version": 2, "percent": taken})
        assert answer.json()["canary"]["percent"] == taken


async def test_a_version_has_one_role(front: System) -> None:
    """Canary and shadow are other versions than the active one, and than each other."""
    await _versions(front, 3)
    for asked, path in (
        ({"canary": {"version": 1, "percent": 5}}, "/canary/version"),
        ({"shadow": 1}, "/shadow"),
        ({"active": 2, "canary": {"version": 2, "percent": 5}}, "/canary/version"),
        ({"active": 2, "shadow": 2}, "/shadow"),
        ({"canary": {"version": 2, "percent": 5}, "shadow": 2}, "/shadow"),
    ):
        document = problem(await _put(front, **asked), "INVALID_REQUEST")
        assert paths(document) == [path], asked
    assert len((await front.http.get(ROLLOUT)).json()["history"]) == 1


async def test_without_an_active_version_there_is_nothing_to_be_beside(front: System) -> None:
    """A canary of nothing would leave the rest of the executions without a version."""
    task_id = (await front.http.post("/api/v1/tasks", json={"name": "upper"})).json()["id"]
    for _ in range(2):
        await front.store(task_id, UPPER, activate=False)
    canary = {"version": 2, "percent": 5}
    for asked, path in (({"canary": canary}, "/canary/version"), ({"shadow": 2}, "/shadow")):
        document = problem(await _put(front, **asked), "INVALID_REQUEST")
        assert paths(document) == [path]
        assert "activate" in document["detail"]
    together = (await _put(front, active=1, canary=canary)).json()
    assert (together["active"], together["canary"]["version"]) == (1, 2)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"active": None}, "/active"),
        ({"active": "1"}, "/active"),
        ({"canary": {"version": 1}}, "/canary"),
        ({"canary": {"version": 1, "percent": "5"}}, "/canary/percent"),
        ({"canary": {"version": 1, "percent": 5, "stage": 1}}, "/canary"),
        ({"canary": 5}, "/canary"),
        ({"shadow": 1.5}, "/shadow"),
        ({"force": 1}, "/force"),
        ({"activ": 1}, ""),
        ([], ""),
    ],
)
async def test_bodies_of_a_wrong_form_are_refused(front: System, body: Any, path: str) -> None:
    """With the field that is wrong; the active version cannot be taken away."""
    await _versions(front, 1)
    assert paths(problem(await front.http.put(ROLLOUT, json=body), "INVALID_REQUEST")) == [path]


async def test_what_is_no_json_or_no_task_is_refused(front: System) -> None:
    """At each of the four doors."""
    await _versions(front, 1)
    problem(await front.http.put(ROLLOUT, content=b'{"active": '), "MALFORMED_JSON")
    for method, path in (
        ("GET", ""),
        ("PUT", ""),
        ("POST", "/promote"),
        ("POST", "/rollback"),
    ):
        answer = await front.http.request(
            method, f"/api/v1/tasks/nobody/rollout{path}", content=b"{}"
        )
        problem(answer, "TASK_NOT_FOUND")
    problem(await front.http.delete(ROLLOUT), "METHOD_NOT_ALLOWED")


async def test_who_comes_second_is_told_the_current_revision(front: System, other: System) -> None:
    """Of two that have read the same, one wins; at another revision nothing is changed."""
    await _versions(front, 3)
    seen = (await front.http.get(ROLLOUT)).headers["etag"]
    answers = await asyncio.gather(
        *(
            door.http.put(ROLLOUT, json={"active": version}, headers={"If-Match": seen})
            for door, version in ((front, 2), (other, 3))
        )
    )
    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert won.status_code == 200
    document = problem(lost, "PRECONDITION_FAILED")
    assert won.headers["etag"].strip('"') in document["detail"]
    for path in ("promote", "rollback"):
        stale = await front.http.post(f"{ROLLOUT}/{path}", headers={"If-Match": seen})
        problem(stale, "PRECONDITION_FAILED")
    activate = "/api/v1/tasks/upper/artifacts/1/activate"
    problem(await front.http.post(activate, headers={"If-Match": seen}), "PRECONDITION_FAILED")
    problem(await front.http.put(ROLLOUT, json={}, headers={"If-Match": "x"}), "INVALID_QUERY")
    assert (await front.http.get(ROLLOUT)).json() == won.json()
    fresh = {"If-Match": won.headers["etag"]}
    assert (await front.http.post(f"{ROLLOUT}/rollback", headers=fresh)).json()["active"] == 1


async def test_a_draft_is_activated_by_force(front: System) -> None:
    """At both doors; without force the reason is told, and the history knows who insisted."""
    task = await _versions(front, 1)
    for _ in range(2):
        await front.store(task["id"], "# draft", activate=False, status="draft")
    activate = "/api/v1/tasks/upper/artifacts/2/activate"
    for body in (b"", b"{}", b'{"force": false}'):
        refused = await front.http.post(activate, content=body)
        assert "draft" in problem(refused, "ARTIFACT_NOT_ACTIVATABLE")["detail"]
    problem(await front.http.post(activate, json={"forced": True}), "INVALID_REQUEST")
    problem(await _put(front, active=3), "ARTIFACT_NOT_ACTIVATABLE")
    await front.http.post(activate, json={"force": True})
    rollout = (await _put(front, active=3, force=True)).json()
    assert [(c["version"], c["forced"]) for c in rollout["history"]] == [
        (1, False),
        (2, True),
        (3, True),
    ]


async def test_routing_keys_have_a_length(front: System) -> None:
    """1 to 256 characters, in single requests, in batches and on lines."""
    await front.create()
    for key in ("", "x" * 257, 7):
        answer = await front.execute("a", routing_key=key)
        assert paths(problem(answer, "INVALID_REQUEST")) == ["/routing_key"], key
    items = [{"input": "a", "routing_key": "x" * 257}]
    body = {"task_id": "upper", "items": items}
    answer = await front.http.post("/api/v1/batch/execute", json=body)
    assert paths(problem(answer, "INVALID_REQUEST")) == ["/items/0/routing_key"]
    queued = await front.http.post(
        "/api/v1/tasks/upper/execute?wait=0", json={"input": "a", "routingKey": "ü" * 256}
    )
    assert queued.status_code == 202
