"""A program is checked in a cell of a worker that has its runtime before it becomes a version."""

import asyncio
import time

import msgspec
import pytest
from nats.aio.msg import Msg

from loopai.ingress import artifacts
from loopai.synthesis import screening
from streams import codec, subjects
from streams.messages import AdmitAnswer, AdmitRequest
from tests.integration.ingress.problems import paths, problem
from tests.system import UPPER, System
from workers import admitter, executor

ARTIFACTS = "/api/v1/tasks/upper/artifacts"
COUNTER = "n = 0\ndef run(input):\n    global n\n    n += 1\n    return str(n)\n"
EXAMPLES = [{"input": value, "output": value.upper()} for value in ("a", "b", "c")]
HANG = "sum(range(10**11))\n"


async def _task(system: System, **fields: object) -> None:
    text = {"type": "string"}
    body = {"name": "upper", "input_schema": text, "output_schema": text, **fields}
    (await system.http.post("/api/v1/tasks", json=body)).raise_for_status()


async def _none_stored(system: System) -> bool:
    return bool((await system.http.get(ARTIFACTS)).json() == {"artifacts": []})


async def test_a_program_is_tried_on_the_examples_of_its_task(system: System) -> None:
    """The version says how it will be run, why, and how long a run took."""
    await _task(system, examples=EXAMPLES)
    stored = (await system.http.post(ARTIFACTS, json={"code": UPPER})).json()
    assert (stored["language"], stored["isolation"], stored["status"]) == (
        "python",
        "shared",
        "validated",
    )
    assert "tried on 3 examples" in stored["status_reason"]
    assert stored["complexity_metrics"]["estimated_latency_ms"] > 0


async def test_a_stateful_program_is_run_in_fresh_processes(system: System) -> None:
    """It is found at upload, told with the input that showed it, and then does no harm."""
    await _task(system, examples=EXAMPLES)
    stored = (await system.http.post(ARTIFACTS, json={"code": COUNTER, "activate": True})).json()
    assert stored["isolation"] == "batch"
    assert 'the input "c" gave "3" at first and "4" after other inputs' in stored["status_reason"]
    assert [(await system.execute("x")).json()["output"] for _ in range(3)] == ["1"] * 3


async def test_the_uploader_may_choose_the_isolation(system: System) -> None:
    """What is asked for is kept, and the reason says where it is at odds with what was found."""
    await _task(system, examples=EXAMPLES)
    for isolation in ("shared", "batch", "call"):
        body = {"code": COUNTER, "isolation": isolation}
        stored = (await system.http.post(ARTIFACTS, json=body)).json()
        assert stored["isolation"] == isolation
        assert "stateful" in stored["status_reason"]
    body = {"code": UPPER, "isolation": "none"}
    problem(await system.http.post(ARTIFACTS, json=body), "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("code", "reason", "line"),
    [
        ("def run(input):\n    return (\n", "'(' was never closed", 2),
        ("import json\nimport socket\ndef run(input): pass\n", "imports socket", 2),
        ("def walk(input): pass\n", "run(input)", None),
        ("\n\n1 / 0\ndef run(input): pass\n", "division by zero", 3),
        (f"{HANG}def run(input): pass\n", "longer than 2000 ms", None),
        ("x = bytearray(10**10)\ndef run(input): pass\n", "out of memory", None),
    ],
)
async def test_what_cannot_be_loaded_is_refused_with_line_and_reason(
    system: System, code: str, reason: str, line: int | None
) -> None:
    """Whether it was found by reading or by loading it."""
    await _task(system)
    document = problem(await system.http.post(ARTIFACTS, json={"code": code}), "INVALID_PROGRAM")
    assert paths(document) == ["/code"]
    assert reason in document["detail"]
    assert line is None or document["line"] == line
    assert await _none_stored(system)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("javascript", "export function run(input) { return input.toUpperCase(); }\n"),
        ("typescript", "export const run = (input: string): string => input.toUpperCase();\n"),
    ],
)
async def test_scripts_are_checked_stored_and_run(system: System, language: str, code: str) -> None:
    """A program in another language goes the same way as one in Python."""
    await _task(system, examples=EXAMPLES)
    body = {"code": code, "language": language, "activate": True}
    stored = (await system.http.post(ARTIFACTS, json=body)).json()
    assert (stored["language"], stored["isolation"]) == (language, "shared"), stored
    assert "tried on 3 examples" in stored["status_reason"]
    assert stored["complexity_metrics"]["lines_of_code"] == 1
    answer = (await system.execute("hello")).json()
    assert (answer["status"], answer["output"]) == ("success", "HELLO")


async def test_a_stateful_script_is_run_in_fresh_processes(system: System) -> None:
    """What is found of Python is found of others."""
    await _task(system, examples=EXAMPLES)
    code = "let n = 0;\nexport function run(input) { n += 1; return String(n); }\n"
    body = {"code": code, "language": "javascript", "activate": True}
    stored = (await system.http.post(ARTIFACTS, json=body)).json()
    assert stored["isolation"] == "batch", stored
    assert 'the input "c" gave "3" at first and "4" after other inputs' in stored["status_reason"]
    assert [(await system.execute("x")).json()["output"] for _ in range(3)] == ["1"] * 3


@pytest.mark.parametrize(
    ("language", "code", "line"),
    [
        ("javascript", "export function run(input) {\n  return (;\n}\n", 2),
        ("typescript", "const a: number = 1;\nexport function run(input: ) { }\n", 2),
        ("javascript", "export function walk(input) { }\n", None),
        ("javascript", "import fs from 'node:fs';\nexport function run(input) { }\n", 1),
        ("typescript", "export function run(input: string) { }\nthrow new Error('no');\n", 2),
        ("javascript", "export function run(input) { }\nwhile (true) {}\n", None),
    ],
)
async def test_scripts_that_cannot_be_loaded_are_refused(
    system: System, language: str, code: str, line: int | None
) -> None:
    """All of it is judged by loading: syntax, `run`, imports, what is thrown, hangs."""
    await _task(system)
    answer = await system.http.post(ARTIFACTS, json={"code": code, "language": language})
    document = problem(answer, "INVALID_PROGRAM")
    assert paths(document) == ["/code"]
    assert document["detail"]
    assert line is None or document.get("line") == line, document
    assert await _none_stored(system)


async def test_a_failing_script_tells_its_line(system: System) -> None:
    """Outcome, line and traceback reach the caller, whatever the language."""
    await _task(system)
    code = "export function run(input) {\n  throw new TypeError('no');\n}\n"
    body = {"code": code, "language": "javascript", "activate": True}
    (await system.http.post(ARTIFACTS, json=body)).raise_for_status()
    error = (await system.execute("x")).json()["error"]
    assert (error["type"], error["outcome"], error["line"]) == ("TypeError", "error", 2), error
    assert "program.js:2" in error["traceback"]


async def test_a_program_may_have_a_mebibyte_and_no_more(system: System) -> None:
    """At the limit it is stored; a byte above, it is refused; far above, it is not even read."""
    await _task(system)
    most = UPPER + "#" * (screening.CODE_BYTES_MAX - len(UPPER))
    assert (await system.http.post(ARTIFACTS, json={"code": most})).status_code == 201
    for language in ("python", "javascript", "typescript"):
        body = {"code": most + "#", "language": language}
        document = problem(await system.http.post(ARTIFACTS, json=body), "INVALID_PROGRAM")
        assert "1048576" in document["detail"]
    huge = {"code": "#" * artifacts.UPLOAD_BYTES_MAX}
    problem(await system.http.post(ARTIFACTS, json=huge), "BODY_TOO_LARGE")


async def test_line_breaks_do_not_make_a_program_too_large(system: System) -> None:
    """JSON writes each as two bytes: half a mebibyte of lines is a mebibyte of body."""
    await _task(system)
    lines = UPPER + "\n" * (screening.CODE_BYTES_MAX - len(UPPER))
    assert (await system.http.post(ARTIFACTS, json={"code": lines})).status_code == 201


async def test_without_a_worker_nothing_is_stored(front: System) -> None:
    """503 with the language that nobody runs, and when to ask again."""
    await _task(front)
    for language in ("python", "javascript", "typescript"):
        body = {"code": UPPER, "language": language}
        answer = await front.http.post(ARTIFACTS, json=body)
        document = problem(answer, "RUNTIME_UNAVAILABLE")
        assert f"no worker that runs {language} is there" in document["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    assert await _none_stored(front)


async def test_a_worker_of_another_runtime_is_not_asked(front: System) -> None:
    """An executor without Deno answers for Python only."""
    await _task(front)
    await front.start_pool(executor, runtimes="python")
    body = {"code": "export const run = (x: string) => x;", "language": "typescript"}
    document = problem(await front.http.post(ARTIFACTS, json=body), "RUNTIME_UNAVAILABLE")
    assert "no worker that runs typescript is there" in document["detail"]
    assert (await front.http.post(ARTIFACTS, json={"code": UPPER})).status_code == 201


@pytest.mark.parametrize("status", ["silent", "busy", "failed"])
async def test_workers_that_do_not_get_to_it_are_waited_for_within_bounds(
    front: System, status: str
) -> None:
    """Silence, a full queue and a broken check all end in a 503, and nothing is stored."""
    await _task(front)
    brief = msgspec.structs.replace(front.settings, admit_ms_max=600)
    front.services = msgspec.structs.replace(front.services, settings=brief)
    front.app.state.services = front.services

    async def answer(message: Msg) -> None:
        if status != "silent":
            told = AdmitAnswer(status=status, reason="no room")  # type: ignore[arg-type]
            await front.bus.client.publish(message.reply, codec.ADMIT_ANSWER.encode(told))

    await front.bus.client.subscribe(subjects.admit("python"), queue="executor", cb=answer)
    await front.bus.client.flush()
    begun = time.monotonic()
    answered = await front.http.post(ARTIFACTS, json={"code": UPPER})
    document = problem(answered, "RUNTIME_UNAVAILABLE")
    assert time.monotonic() - begun < 5
    assert "could not check the program in time" in document["detail"]
    assert (status == "silent") != ("no room" in document["detail"])
    assert int(answered.headers["retry-after"]) >= 1
    assert await _none_stored(front)


def _request(code: str, *, within_s: float = 30) -> bytes:
    deadline_ms = int((time.time() + within_s) * 1000)
    asked = AdmitRequest(tenant="default", language="python", code=code, deadline_ms=deadline_ms)
    return codec.ADMIT_REQUEST.encode(asked)


@pytest.mark.usefixtures("worker")
async def test_a_worker_takes_a_bounded_number_of_checks(front: System) -> None:
    """What is over the number that may wait is told at once that the worker is busy."""
    count = admitter.AT_ONCE + admitter.WAITING_MAX + 5
    inbox = front.bus.client.new_inbox()
    answers = await front.bus.client.subscribe(inbox)
    for number in range(count):
        # Each hangs while it loads, so that none is done before all have come.
        payload = _request(f"{HANG}#{number}", within_s=3)
        await front.bus.client.publish(subjects.admit("python"), payload, reply=inbox)

    told = [codec.ADMIT_ANSWER.decode((await answers.next_msg(timeout=5)).data) for _ in range(5)]

    assert {each.status for each in told} == {"busy"}


@pytest.mark.usefixtures("worker")
async def test_what_is_no_request_is_answered_and_stops_nobody(front: System) -> None:
    """Whoever sends rubbish hears of it; the next request is served."""
    subject = subjects.admit("python")
    answer = await front.bus.client.request(subject, b"\xc1", timeout=5)
    assert codec.ADMIT_ANSWER.decode(answer.data).status == "failed"
    answer = await front.bus.client.request(subject, _request(UPPER), timeout=15)
    assert codec.ADMIT_ANSWER.decode(answer.data).status == "admitted"


@pytest.mark.usefixtures("worker")
async def test_a_byte_order_mark_is_no_part_of_the_program(front: System) -> None:
    """An editor's mark is dropped, and what is stored is the text behind it."""
    await _task(front)
    answer = await front.http.post(ARTIFACTS, json={"code": f"\ufeff{UPPER}"})
    assert answer.status_code == 201, answer.text
    assert (await front.http.get(f"{ARTIFACTS}/1/program")).text == UPPER


async def test_a_worker_that_stops_answers_what_it_has_begun(front: System) -> None:
    """An upload under way when its worker drains is answered all the same."""
    await _task(front)
    await front.start_pool(executor)
    code = "sum(range(10**7))\ndef run(input):\n    return input\n"
    overheard = await front.bus.client.subscribe(subjects.admit("python"))
    await front.bus.client.flush()
    uploading = asyncio.create_task(front.http.post(ARTIFACTS, json={"code": code}))
    await overheard.next_msg(timeout=15)
    await front.stop_pool(executor)
    assert (await uploading).status_code == 201


async def test_programs_have_the_media_type_of_their_language(front: System) -> None:
    """A browser or a cache knows what it got."""
    task = await front.create()
    script = "export function run(input) { return input; }\n"
    await front.store(task["id"], script, "javascript", activate=False)
    await front.store(task["id"], script, "typescript", activate=False)
    for version, expected in ((1, "x-python"), (2, "javascript"), (3, "typescript")):
        answer = await front.http.get(f"{ARTIFACTS}/{version}/program")
        assert answer.headers["content-type"] == f"text/{expected}; charset=utf-8"
