"""Versions of a program: uploaded, numbered, read, activated."""

import asyncio
import hashlib
import itertools
from pathlib import Path

import pytest

from tests.integration.ingress.problems import paths, problem
from tests.system import UPPER, System
from workers import executor, recorder

ARTIFACTS = "/api/v1/tasks/upper/artifacts"
REFUSED = {
    "a syntax error": ("def run(input):\n    return (\n", "line 2"),
    "no run": ("def walk(input):\n    return input\n", "run(input)"),
    "a forbidden import": ("import json\nimport socket\ndef run(input):\n    return 1\n", "line 2"),
    "two arguments": ("def run(a, b):\n    return a\n", "line 1"),
    "a generator": ("def run(input):\n    yield input\n", "yield"),
    "async": ("async def run(input):\n    return input\n", "def"),
    "nothing": ("", "run(input)"),
    "a null byte": ("def run(input):\n    return 'a\0'\n", "null"),
    "nesting": ("def run(input):\n    return " + "(" * 50_000, "Python"),
    "a long chain": ("def run(input):\n    return " + "-" * 100_000 + "1\n", "nested"),
    "a deep expression": ("def run(input):\n    return " + "1+" * 50_000 + "1\n", "nested"),
}
ABSENT = ["0", "-1", "2", "99999999999999999999", "9" * 5000, "one", "1.0", "%00", "٣", "1e0", "+1"]


def _returning(value: int) -> str:
    return f"def run(input):\n    return '{value}'\n"


@pytest.mark.usefixtures("worker")
async def test_refused_programs_say_why_and_where(front: System) -> None:
    """What cannot run is refused at upload, with its line, and takes no version."""
    await front.http.post("/api/v1/tasks", json={"name": "upper"})
    for name, (code, expected) in REFUSED.items():
        document = problem(await front.http.post(ARTIFACTS, json={"code": code}), "INVALID_PROGRAM")
        assert paths(document) == ["/code"], name
        assert expected in document["detail"], (name, document["detail"])
        assert len(document["detail"]) < 3000, name
    assert (await front.http.get(ARTIFACTS)).json() == {"artifacts": []}
    ok = await front.http.post(ARTIFACTS, json={"code": UPPER})
    assert ok.json()["version"] == 1


async def test_uploads_of_a_wrong_form_are_refused(front: System) -> None:
    """Other languages, unknown fields and texts that are none are a 422 or a 400."""
    await front.create()
    for body in ({"code": UPPER, "language": "cobol"}, {"code": 1}, {}, {"code": UPPER, "x": 1}):
        problem(await front.http.post(ARTIFACTS, json=body), "INVALID_REQUEST")
    lone = b'{"code": "def run(input): return \'\\ud800\'"}'
    problem(await front.http.post(ARTIFACTS, content=lone), "MALFORMED_JSON")
    elsewhere = "/api/v1/tasks/nobody/artifacts"
    problem(await front.http.post(elsewhere, json={"code": UPPER}), "TASK_NOT_FOUND")


@pytest.mark.usefixtures("worker")
async def test_fifty_uploads_at_once_make_fifty_versions(front: System, other: System) -> None:
    """Versions are dense and each holds its own program, whichever door it came through."""
    await front.http.post("/api/v1/tasks", json={"name": "upper"})
    uploads = [
        (front if number % 2 else other).http.post(ARTIFACTS, json={"code": _returning(number)})
        for number in range(50)
    ]
    answers = [each.json() for each in await asyncio.gather(*uploads)]
    assert sorted(each["version"] for each in answers) == list(range(1, 51))
    listed = (await other.http.get(ARTIFACTS)).json()["artifacts"]
    assert [each["version"] for each in listed] == list(range(50, 0, -1))
    for number in (0, 31, 49):
        whole = (await front.http.get(f"{ARTIFACTS}/{answers[number]['version']}")).json()
        assert whole["code"] == _returning(number)


async def test_a_program_is_read_once_and_cached_for_ever(front: System) -> None:
    """By its task's id it never changes, and caches need not ask; by name they are told 304."""
    task = await front.create()
    by_id = await front.http.get(f"/api/v1/tasks/{task['id']}/artifacts/1/program")
    assert "immutable" in by_id.headers["cache-control"]
    answer = await front.http.get(f"{ARTIFACTS}/1/program")
    digest = hashlib.sha256(UPPER.encode()).hexdigest()
    assert answer.text == UPPER
    assert answer.headers["etag"] == f'"{digest}"'
    assert answer.headers["cache-control"] == "public, no-cache"
    assert answer.headers["content-type"].startswith("text/x-python")
    for tags in (f'"{digest}"', f'W/"{digest}"', f'"other", "{digest}"', "*"):
        again = await front.http.get(f"{ARTIFACTS}/1/program", headers={"If-None-Match": tags})
        assert (again.status_code, again.content) == (304, b""), tags
        assert again.headers["etag"] == f'"{digest}"'
    for tags in ('"other"', digest, f'"x{digest}"', f'"a "{digest}"'):
        changed = await front.http.get(f"{ARTIFACTS}/1/program", headers={"If-None-Match": tags})
        assert (changed.status_code, changed.text) == (200, UPPER), tags
    head = await front.http.head(f"{ARTIFACTS}/1/program")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "cache-control", "content-type", "content-length"):
        assert head.headers[name] == answer.headers[name]
    again = await front.http.head(f"{ARTIFACTS}/1/program", headers={"If-None-Match": "*"})
    assert again.status_code == 304


async def test_a_program_is_read_from_the_store_once(front: System, other: System) -> None:
    """Further requests come out of the memory of the ingress, which is counted."""
    await front.create()
    for _ in range(3):
        assert (await other.http.get(f"{ARTIFACTS}/1/program")).text == UPPER
        assert (await other.http.get(f"{ARTIFACTS}/1")).json()["code"] == UPPER
    lines = (await other.http.get("/metrics")).text.splitlines()
    assert 'loopai_cache_reads_total{layer="store",result="hit"} 1.0' in lines
    assert 'loopai_cache_reads_total{layer="memory",result="hit"} 5.0' in lines
    assert "loopai_cache_breaker_open 0.0" in lines


async def test_versions_that_are_not_there_are_not_found(front: System) -> None:
    """Zero, negative, huge and made-up versions are a 404 wherever a version stands."""
    await front.create()
    for version in ABSENT:
        for method, path in (("GET", ""), ("GET", "/program"), ("POST", "/activate")):
            answer = await front.http.request(method, f"{ARTIFACTS}/{version}{path}")
            problem(answer, "ARTIFACT_NOT_FOUND")
    for version in (0, -1, 2, 2**63, 10**400):
        problem(await front.execute("a", version=version), "ARTIFACT_NOT_FOUND")
    problem(await front.http.get("/api/v1/tasks/nobody/artifacts/1"), "TASK_NOT_FOUND")


async def test_activating_twice_changes_nothing(front: System) -> None:
    """The second activation of what is active adds no line to the rollout's history."""
    await front.create()
    first = (await front.http.post(f"{ARTIFACTS}/1/activate")).json()
    second = (await front.http.post(f"{ARTIFACTS}/1/activate")).json()
    assert first == second
    assert [each["version"] for each in second["history"]] == [1]


@pytest.mark.usefixtures("worker")
async def test_the_active_version_is_the_one_activated_last(front: System, other: System) -> None:
    """Statuses follow the rollout, at every door, and an old version can come back."""
    await front.create()
    await front.http.post(ARTIFACTS, json={"code": _returning(2)})
    await front.http.post(ARTIFACTS, json={"code": _returning(3)})
    for active, statuses in ((2, ["validated", "active", "deprecated"]), (1, None), (3, None)):
        await front.http.post(f"{ARTIFACTS}/{active}/activate")
        for door in (front, other):
            listed = (await door.http.get(ARTIFACTS)).json()["artifacts"]
            assert [e["version"] for e in listed if e["status"] == "active"] == [active]
            if statuses:
                assert [each["status"] for each in listed] == statuses
        assert (await front.http.get(f"{ARTIFACTS}/{active}")).json()["status"] == "active"


@pytest.mark.usefixtures("worker")
async def test_racing_activations_end_in_one_active_version(front: System, other: System) -> None:
    """Whoever comes last wins, and the history tells who came when, without gaps."""
    await front.create()
    for number in range(2, 6):
        await front.http.post(ARTIFACTS, json={"code": _returning(number)})
    answers = await asyncio.gather(
        *(
            (front if version % 2 else other).http.post(f"{ARTIFACTS}/{version}/activate")
            for version in range(2, 6)
        )
    )
    assert {each.status_code for each in answers} == {200}
    history = max((each.json()["history"] for each in answers), key=len)
    assert len(history) == 5
    for earlier, later in itertools.pairwise(history):
        assert later["previous"] == earlier["version"]


@pytest.mark.usefixtures("worker")
async def test_what_one_door_uploads_another_executes(front: System, other: System) -> None:
    """A version uploaded and activated here is found there at once."""
    await front.http.post("/api/v1/tasks", json={"name": "upper"})
    for version in range(1, 6):
        body = {"code": _returning(version), "activate": True}
        await front.http.post(ARTIFACTS, json=body)
        assert (await other.http.get(f"{ARTIFACTS}/{version}")).status_code == 200
        answer = await other.http.post(
            "/api/v1/tasks/upper/execute?wait=0", json={"input": "a", "version": version}
        )
        assert answer.status_code == 202, answer.text


@pytest.mark.usefixtures("worker")
async def test_a_store_that_cannot_be_written_refuses_and_keeps_nothing(front: System) -> None:
    """Without a place for the text there is no version: 503, and the next upload is version 1."""
    await front.http.post("/api/v1/tasks", json={"name": "upper"})
    folder = Path(front.settings.data_dir) / "artifacts"
    folder.rmdir()
    folder.write_text("in the way")
    answer = await front.http.post(ARTIFACTS, json={"code": UPPER, "activate": True})
    problem(answer, "STORE_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await front.http.get(ARTIFACTS)).json() == {"artifacts": []}
    folder.unlink()
    assert (await front.http.post(ARTIFACTS, json={"code": UPPER})).json()["version"] == 1


async def test_a_damaged_program_is_neither_shown_nor_run(front: System, other: System) -> None:
    """Another text in the store: readers get a 500, executions are told, none has its output.

    Of those that do not have the text in memory: for the one that stored it nothing is amiss.
    """
    await front.create()
    digest = hashlib.sha256(UPPER.encode()).hexdigest()
    path = Path(front.settings.data_dir) / "artifacts" / "by-digest" / digest[:2] / digest
    path.unlink()
    path.write_text(UPPER.replace("upper", "lower"))
    for read in (f"{ARTIFACTS}/1/program", f"{ARTIFACTS}/1"):
        assert digest in problem(await other.http.get(read), "PROGRAM_DAMAGED")["detail"]
    assert (await front.http.get(f"{ARTIFACTS}/1/program")).text == UPPER
    for pool in (executor, recorder):
        await front.start_pool(pool)
    ended = (await front.execute("Secret", timeout_ms=60_000)).json()
    assert (ended["status"], ended["output"], ended["version"]) == ("rejected", None, 1)
    assert ended["error"]["type"] == "PROGRAM_DAMAGED"
    assert digest in ended["error"]["message"]
    looked_up = (await front.http.get(f"/api/v1/executions/{ended['id']}")).json()
    assert looked_up["error"] == ended["error"]
    assert (await front.bus.jetstream.stream_info("DEAD")).state.messages == 0
    await front.http.post(ARTIFACTS, json={"code": UPPER})
    assert (await front.execute("mended")).json()["output"] == "MENDED"
