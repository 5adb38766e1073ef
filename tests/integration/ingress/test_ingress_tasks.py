"""Tasks: created, read, changed under a condition, deleted and made anew."""

import asyncio

import pytest

from loopai.domain import INTEGER_MAX
from streams import ids
from tests.integration.ingress.problems import paths, problem
from tests.system import System
from workers import executor

TASKS = "/api/v1/tasks"
REFUSED_NAMES = [
    "",
    " ",
    "two words",
    "tab\there",
    "new\nline",
    "nul\0",
    "star*",
    "*",
    ">",
    "a.>",
    "naïve",
    "任务",
    "💥",
    "a" * 129,
    "a" * 300,
    "-dash",
    ".dot",
    "_under",
    "..",
    "a/b",
    "a%2Eb",
    "50%",
    "a?b",
    "$SYS",
    "a=b",
    "\u202egpj",
]
TAKEN_NAMES = ["execute", "UPPER", "a", "a" * 128, "0", "a.b.c", "a..b", "a-", "v1.2_x-3", "tasks"]
BAD_FIELDS = [
    ({"accuracy_target": 1.1}, ["/accuracy_target"]),
    ({"accuracy_target": None}, ["/accuracy_target"]),
    ({"sampling_rate": -0.1}, ["/sampling_rate"]),
    ({"latency_target_ms": 0}, ["/latency_target_ms"]),
    ({"description": 1}, ["/description"]),
    ({"description": "x" * 10_001}, ["/description"]),
    ({"examples": {}}, ["/examples"]),
    ({"examples": [{"input": 1, "output": 1}, {"input": 1}]}, ["/examples/1"]),
    ({"input_schema": {"type": "strnig"}}, ["/input_schema"]),
    ({"input_schema": [], "output_schema": 7}, ["/input_schema", "/output_schema"]),
    ({"output_schema": {"$ref": "http://127.0.0.1:1/x"}}, ["/output_schema"]),
    ({"output_schema": {"pattern": "("}}, ["/output_schema"]),
    ({"examples": [{"input": INTEGER_MAX + 1, "output": 1}]}, ["/examples/0/input"]),
    (
        {
            "input_schema": {"properties": {"n": {"type": "integer"}}},
            "output_schema": {"type": "string"},
            "examples": [
                {"input": {"n": 1}, "output": "a"},
                {"input": {"n": "x"}, "output": 2},
                {"input": {"n": 1.5}, "output": "c"},
            ],
        },
        ["/examples/1/input/n", "/examples/1/output", "/examples/2/input/n"],
    ),
]


async def test_a_task_is_read_as_it_was_written(front: System) -> None:
    """By id and by name, in the list and alone, with the ETag of its revision."""
    body = {"name": "a.b", "description": "d", "examples": [{"input": [1.0, "ü"], "output": None}]}
    created = await front.http.post(TASKS, json=body)
    assert created.status_code == 201
    task = created.json()
    assert created.headers["location"] == f"{TASKS}/{task['id']}"
    assert ids.is_id(task["id"])
    for reference in ("a.b", task["id"], "a%2Eb"):
        answer = await front.http.get(f"{TASKS}/{reference}")
        assert answer.json() == task
        assert answer.headers["etag"] == created.headers["etag"] == f'"{task["revision"]}"'
    listed = (await front.http.get(TASKS)).json()["tasks"]
    assert [each["id"] for each in listed] == [task["id"]]


async def test_names_that_are_no_names_are_refused(front: System) -> None:
    """What could become a wildcard, a path or a puzzle never becomes a task."""
    for name in [*REFUSED_NAMES, ids.new()]:
        document = problem(await front.http.post(TASKS, json={"name": name}), "INVALID_REQUEST")
        assert paths(document) == ["/name"], name
    assert (await front.http.get(TASKS)).json() == {"tasks": []}


async def test_unusual_names_that_are_names_work(front: System) -> None:
    """A task may be called `execute`, and case tells tasks apart."""
    for name in [*TAKEN_NAMES, "upper"]:
        await front.create(name)
        assert (await front.http.get(f"{TASKS}/{name}")).json()["name"] == name
        answer = await front.http.post(f"{TASKS}/{name}/execute?wait=0", json={"input": "a"})
        assert answer.status_code == 202, answer.text
    listed = [each["name"] for each in (await front.http.get(TASKS)).json()["tasks"]]
    assert listed == sorted([*TAKEN_NAMES, "upper"])


async def test_references_that_name_no_task_are_not_found(front: System) -> None:
    """Whatever is put where a task's name belongs is a 404, and never a 500."""
    await front.create()
    for reference in (
        "nobody",
        ids.new(),
        "*",
        "%3E",
        "%00",
        "a%20b",
        "%FF",
        "%2e%2e%2f",
        "a" * 5000,
    ):
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/execute"),
            ("GET", "/artifacts"),
        ):
            answer = await front.http.request(
                method, f"{TASKS}/{reference}{path}", content=b'{"input": 1}'
            )
            assert answer.status_code == 404, (method, reference, answer.text)
            assert answer.json()["code"] in ("TASK_NOT_FOUND", "NOT_FOUND")
    problem(await front.http.get(f"{TASKS}/a%2Fb"), "NOT_FOUND")
    problem(await front.http.get(f"{TASKS}/nobody"), "TASK_NOT_FOUND")


async def test_a_name_is_taken_once(front: System) -> None:
    """Of twenty who create the same name at once, one does."""
    answers = await asyncio.gather(
        *(front.http.post(TASKS, json={"name": "same"}) for _ in range(20))
    )
    created = [each for each in answers if each.status_code == 201]
    assert len(created) == 1
    for each in answers:
        if each is not created[0]:
            problem(each, "TASK_ALREADY_EXISTS")


async def test_wrong_fields_are_told_with_their_places(front: System) -> None:
    """At creation and at a change alike, and nothing is stored."""
    await front.http.post(TASKS, json={"name": "known"})
    before = (await front.http.get(f"{TASKS}/known")).json()
    for fields, expected in BAD_FIELDS:
        created = await front.http.post(TASKS, json={"name": "new", **fields})
        assert paths(problem(created, "INVALID_REQUEST")) == expected, fields
        changed = await front.http.patch(f"{TASKS}/known", json=fields)
        assert paths(problem(changed, "INVALID_REQUEST")) == expected, fields
    assert (await front.http.get(f"{TASKS}/known")).json() == before
    problem(await front.http.get(f"{TASKS}/new"), "TASK_NOT_FOUND")


async def test_each_field_can_be_changed_by_itself(front: System) -> None:
    """PATCH changes what it names and leaves the rest."""
    await front.http.post(TASKS, json={"name": "t", "input_schema": {"type": "integer"}})
    fields = {
        "description": "new",
        "input_schema": {"type": "number"},
        "output_schema": {"type": "boolean"},
        "examples": [{"input": 1, "output": True}],
        "accuracy_target": 0.5,
        "latency_target_ms": 1.5,
        "sampling_rate": 0,
    }
    for name, value in fields.items():
        before = (await front.http.get(f"{TASKS}/t")).json()
        changed = await front.http.patch(f"{TASKS}/t", json={name: value})
        assert changed.status_code == 200, changed.text
        expected = before | {
            name: value,
            "updated_at": changed.json()["updated_at"],
            "revision": changed.json()["revision"],
        }
        assert changed.json() == expected
        assert (await front.http.get(f"{TASKS}/t")).json() == expected
        assert changed.json()["revision"] > before["revision"]


async def test_name_and_identity_never_change(front: System) -> None:
    """The name is in subjects and the id in records: PATCH of either is refused."""
    await front.http.post(TASKS, json={"name": "t"})
    for field in ("name", "id", "tenant", "revision", "created_at"):
        problem(await front.http.patch(f"{TASKS}/t", json={field: "x"}), "INVALID_REQUEST")


async def test_a_change_under_a_condition_is_refused_once_it_no_longer_holds(front: System) -> None:
    """If-Match keeps two editors from overwriting each other, in PATCH and DELETE."""
    tag = (await front.http.post(TASKS, json={"name": "t"})).headers["etag"]
    first = await front.http.patch(f"{TASKS}/t", json={}, headers={"If-Match": tag})
    assert first.status_code == 200
    stale = {"If-Match": tag}
    problem(await front.http.patch(f"{TASKS}/t", json={}, headers=stale), "PRECONDITION_FAILED")
    problem(await front.http.delete(f"{TASKS}/t", headers=stale), "PRECONDITION_FAILED")
    for fresh in (f"W/{first.headers['etag']}", "*"):
        answer = await front.http.patch(f"{TASKS}/t", json={}, headers={"If-Match": fresh})
        assert answer.status_code in (200, 412)
    last = (await front.http.get(f"{TASKS}/t")).headers["etag"]
    assert (await front.http.delete(f"{TASKS}/t", headers={"If-Match": last})).status_code == 204


async def test_conditions_that_are_no_revisions_are_refused(front: System) -> None:
    """A header of thousands of digits or letters is a 400."""
    await front.http.post(TASKS, json={"name": "t"})
    for tag in ('"abc"', '"1", "2"', '"-1"', '""', "9" * 5000, '"' + "1" * 20_000 + '"', '"1.5"'):
        answer = await front.http.patch(f"{TASKS}/t", json={}, headers={"If-Match": tag})
        assert len(problem(answer, "INVALID_QUERY")["detail"]) < 300


async def test_concurrent_changes_all_count(front: System) -> None:
    """Changes of different fields at the same time do not undo each other."""
    await front.http.post(TASKS, json={"name": "t"})
    fields = [{"description": "d"}, {"accuracy_target": 0.1}, {"sampling_rate": 0.2}]
    answers = await asyncio.gather(
        *(front.http.patch(f"{TASKS}/t", json=each) for each in fields * 4)
    )
    assert {each.status_code for each in answers} == {200}
    task = (await front.http.get(f"{TASKS}/t")).json()
    assert fields[0].items() | fields[1].items() | fields[2].items() <= task.items()  # fmt: skip


async def test_a_deleted_task_is_gone_with_its_versions(front: System) -> None:
    """Nothing of it is found, and a new task of the name starts from nothing."""
    old = await front.create()
    assert (await front.http.delete(f"{TASKS}/upper")).status_code == 204
    for reference in ("upper", old["id"]):
        problem(await front.http.get(f"{TASKS}/{reference}"), "TASK_NOT_FOUND")
        problem(await front.http.delete(f"{TASKS}/{reference}"), "TASK_NOT_FOUND")
        problem(await front.execute("a", reference), "TASK_NOT_FOUND")
    assert (await front.http.get(TASKS)).json() == {"tasks": []}
    new = (await front.http.post(TASKS, json={"name": "upper"})).json()
    assert new["id"] != old["id"]
    assert (await front.http.get(f"{TASKS}/upper/artifacts")).json() == {"artifacts": []}
    problem(await front.execute("a"), "NO_ACTIVE_VERSION")
    problem(await front.http.get(f"{TASKS}/{old['id']}"), "TASK_NOT_FOUND")


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
async def test_work_queued_for_a_deleted_task_does_not_run_under_its_successor(
    front: System, lane: str
) -> None:
    """A new task of the same name never sees the inputs of the old one."""
    await front.create(code="def run(input):\n    return 'old'\n")
    if lane == "interactive":
        answer = await front.http.post(f"{TASKS}/upper/execute?wait=0", json={"input": "secret"})
        execution = answer.json()["id"]
    else:
        batch = asyncio.create_task(
            front.http.post(
                "/api/v1/batch/execute", json={"task_id": "upper", "items": [{"input": "secret"}]}
            )
        )
        while not (await front.bus.jetstream.stream_info("EXECUTE")).state.messages:
            pass
    await front.http.delete(f"{TASKS}/upper")
    await front.create(code="def run(input):\n    return 'new saw ' + input\n")
    await front.start_pool(executor)
    if lane == "interactive":
        ended = (await front.http.get(f"/api/v1/executions/{execution}?wait=10")).json()
    else:
        ended = (await batch).json()["results"][0]
    assert ended["status"] == "rejected", ended
    assert ended["error"]["type"] == "TASK_NOT_FOUND"
    assert ended["output"] is None
    assert (await front.execute("x")).json()["output"] == "new saw x"


async def test_what_one_ingress_writes_another_reads(front: System, other: System) -> None:
    """A task made, changed and deleted at one door is so at the other, at once."""
    for number in range(5):
        name = f"t{number}"
        task = await front.create(name)
        assert (await other.http.get(f"{TASKS}/{name}")).json()["id"] == task["id"]
        assert name in [each["name"] for each in (await other.http.get(TASKS)).json()["tasks"]]
        answer = await other.http.post(f"{TASKS}/{name}/execute?wait=0", json={"input": "a"})
        assert answer.status_code == 202, answer.text
        await other.http.patch(f"{TASKS}/{name}", json={"description": "seen"})
        assert (await front.http.get(f"{TASKS}/{name}")).json()["description"] == "seen"
        await front.http.delete(f"{TASKS}/{name}")
        problem(await other.http.get(f"{TASKS}/{name}"), "TASK_NOT_FOUND")


async def test_a_schema_that_was_changed_holds_for_the_next_request(front: System) -> None:
    """Whoever changes a schema is not answered by the old one afterwards."""
    await front.create()
    for kind, value in (("integer", 1), ("string", "a"), ("null", None), ("boolean", True)):
        await front.http.patch(f"{TASKS}/upper", json={"input_schema": {"type": kind}})
        answer = await front.http.post(f"{TASKS}/upper/execute?wait=0", json={"input": value})
        assert answer.status_code == 202, answer.text
        problem(await front.execute([]), "INVALID_INPUT")


async def test_hostile_patterns_do_not_stall_other_requests(front: System) -> None:
    """A body made to backtrack for hours is answered at once, and so is everybody else."""
    pattern = {"items": {"pattern": "^(a|aa)+$"}}
    await front.create("slow", input_schema=pattern)
    problem(
        await front.http.post(TASKS, json={"name": "x", "input_schema": {"pattern": "(?=a)(a*)*"}}),
        "INVALID_REQUEST",
    )
    async with asyncio.timeout(5):
        problem(await front.execute(["a" * 40 + "b"] * 20_000, "slow"), "INVALID_INPUT")
