"""Bodies that are wrong in every way: refused with a code and a place, never with a 500."""

import json

import pytest

from tests.integration.ingress.problems import paths, problem
from tests.system import System

EXECUTE = "/api/v1/tasks/upper/execute"
NESTED = {
    "type": "object",
    "properties": {
        "rows": {"items": {"type": "object", "properties": {"a/b~": {"type": "number"}}}}
    },
}
MALFORMED = {
    "empty": b"",
    "a word": b"hello",
    "cut off": b'{"input": "a',
    "two values": b'{"input": 1} {"input": 2}',
    "a comma too many": b'{"input": 1,}',
    "NaN": b'{"input": NaN}',
    "Infinity": b'{"input": -Infinity}',
    "single quotes": b"{'input': 1}",
    "invalid UTF-8 in a key": b'{"\xff": 1}',
    "UTF-16": '{"input": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"input": 1}',
    "compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "nested for ever in the input": b'{"input": ' + b"[" * 100_000,
    "nested for ever in a field of ours": b'{"timeoutMs": ' + b"[" * 100_000,
    "nested for ever under an unknown name": b'{"x": ' + b'{"a":' * 100_000,
}
MISSHAPEN = {
    "a list": (b"[]", ""),
    "a list that never ends": (b"[" * 100_000, ""),
    "null": (b"null", ""),
    "without input": (b"{}", ""),
    "an unknown field": (b'{"input": "a", "inptu": 1}', ""),
    "a version in words": (b'{"input": "a", "version": "one"}', "/version"),
    "a boolean for a number": (b'{"input": "a", "timeout_ms": true}', "/timeout_ms"),
    "a number for a boolean": (b'{"input": "a", "force_validation": 1}', "/force_validation"),
    "camelCase of a wrong type": (b'{"input": "a", "timeoutMs": "1"}', "/timeout_ms"),
    "no time": (b'{"input": "a", "timeout_ms": 0}', "/timeout_ms"),
    "negative time": (b'{"input": "a", "timeout_ms": -1}', "/timeout_ms"),
    "too much time": (b'{"input": "a", "timeout_ms": 300001}', "/timeout_ms"),
    "endless time": (b'{"input": "a", "timeout_ms": ' + b"9" * 400 + b"}", "/timeout_ms"),
}
OUTSIDE_THE_DOMAIN = {
    "an infinite number": (b"1e999", "/input"),
    "an integer beyond 2**53": (str(2**53 + 1).encode(), "/input"),
    "such an integer far inside": (b'{"a/b": [0, {"~": -9007199254740993}]}', "/input/a~1b/1/~0"),
    "65 levels": (b"[" * 65 + b"]" * 65, "/input" + "/0" * 64),
    "a lone surrogate": (b'"\\ud800"', "/input"),
    "a lone surrogate in a key": (b'{"\\udfff": 1}', "/input"),
    "invalid UTF-8": (b'"\xff\xfe"', "/input"),
    "an overlong encoding": (b'"\xc0\xaf"', "/input"),
}


async def test_what_is_not_json_is_malformed(front: System) -> None:
    """Bytes that are no JSON are a 400 that says so, however hostile they are."""
    await front.create()
    for name, body in MALFORMED.items():
        document = problem(await front.http.post(EXECUTE, content=body), "MALFORMED_JSON")
        assert "errors" not in document, name


async def test_json_of_another_form_is_refused_with_its_place(front: System) -> None:
    """Wrong types, unknown fields and values out of range are a 422 with a JSON Pointer."""
    await front.create()
    for name, (body, path) in MISSHAPEN.items():
        document = problem(await front.http.post(EXECUTE, content=body), "INVALID_REQUEST")
        assert paths(document) == [path], name


async def test_inputs_outside_the_domain_are_refused_with_their_place(front: System) -> None:
    """What JSON can spell and other languages cannot read never reaches a program."""
    await front.create("anything", input_schema={})
    for name, (value, path) in OUTSIDE_THE_DOMAIN.items():
        answer = await front.http.post(
            "/api/v1/tasks/anything/execute", content=b'{"input": ' + value + b"}"
        )
        assert answer.status_code in (400, 422), name
        if answer.json()["code"] != "MALFORMED_JSON":
            assert paths(problem(answer, "INVALID_INPUT")) == [path], name


async def test_input_that_violates_the_schema_is_refused_with_every_place(front: System) -> None:
    """Each violation is named by its JSON Pointer, with `/` and `~` escaped (RFC 6901)."""
    await front.create("rows", input_schema=NESTED)
    wrong = {"rows": [{"a/b~": 1}, {"a/b~": "x"}, 7]}
    document = problem(await front.execute(wrong, "rows"), "INVALID_INPUT")
    assert paths(document) == ["/input/rows/1/a~1b~0", "/input/rows/2"]


async def test_the_first_ten_violations_are_told(front: System) -> None:
    """A long list of wrong values does not make a long answer."""
    await front.create("numbers", input_schema={"items": {"type": "number"}})
    document = problem(await front.execute(["x" * 50] * 500, "numbers"), "INVALID_INPUT")
    assert len(document["errors"]) == 10
    assert len(json.dumps(document)) < 10_000


async def test_the_last_of_two_equal_keys_counts(system: System) -> None:
    """Duplicate keys are read as every JSON parser in use reads them, at the edge and inside."""
    await system.create("keys", code="def run(input):\n    return input['a']\n", input_schema={})
    body = b'{"input": {"a": "no"}, "input": {"a": "no", "a": "yes"}}'
    answer = await system.http.post("/api/v1/tasks/keys/execute", content=body)
    assert answer.json()["output"] == "yes", answer.text


async def test_a_body_over_the_limit_is_refused_declared_or_not(front: System) -> None:
    """1 MiB is the limit, whether the caller says the length or just keeps sending."""
    await front.create()
    limit = front.settings.body_bytes_max
    body = b'{"input": "' + b"a" * (limit - 12) + b'"}'
    assert len(body) == limit + 1

    async def chunks():
        for _ in range(2 * limit // 4096):
            yield b" " * 4096

    for content in (body, chunks()):
        document = problem(await front.http.post(EXECUTE, content=content), "BODY_TOO_LARGE")
        assert document["limit_bytes"] == limit


async def test_a_body_at_the_limit_is_run(system: System) -> None:
    """The largest body allowed goes all the way through bus, cell and audit."""
    await system.create("length", code="def run(input):\n    return len(input)\n", output_schema={})
    size = system.settings.body_bytes_max - len('{"input":""}')
    answer = await system.http.post(
        "/api/v1/tasks/length/execute", content=b'{"input":"' + b"a" * size + b'"}'
    )
    assert answer.json()["output"] == size, answer.text[:500]


async def test_one_field_in_two_forms_is_refused(front: System) -> None:
    """Which of the two would count is nothing to guess: in bodies, in their items, in queries."""
    await front.create()
    for path, body, place in (
        (EXECUTE, b'{"input": "a", "timeout_ms": 5, "timeoutMs": 6}', "/timeout_ms"),
        (EXECUTE, b'{"input": "a", "timeoutMs": 5, "timeout_ms": 5}', "/timeout_ms"),
        (EXECUTE, b'{"input": "a", "Input": "a"}', "/input"),
        (
            "/api/v1/batch/execute",
            (
                b'{"taskId": "upper", "items": [{"input": "a"}, '
                b'{"input": "b", "routingKey": "x", "routing_key": "y"}]}'
            ),
            "/items/1/routing_key",
        ),
    ):
        document = problem(await front.http.post(path, content=body), "INVALID_REQUEST")
        assert paths(document) == [place]
    answer = await front.http.post(
        "/api/v1/batch/execute?task_id=upper&taskId=upper",
        content=b'{"input": "a"}',
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert "task_id is given in" in problem(answer, "INVALID_QUERY")["detail"]


@pytest.mark.usefixtures("worker")
async def test_camel_case_is_understood(front: System) -> None:
    """Clients of the original send camelCase, in our own fields only: inputs stay as they are."""
    created = await front.http.post(
        "/api/v1/tasks",
        json={
            "name": "camel",
            "inputSchema": {"type": "object", "required": ["camelCase"]},
            "accuracyTarget": 0.5,
            "examples": [{"input": {"camelCase": 1}, "output": 1}],
        },
    )
    assert created.status_code == 201, created.text
    assert created.json()["accuracy_target"] == 0.5
    code = "def run(input):\n    return input\n"
    await front.http.post("/api/v1/tasks/camel/artifacts", json={"code": code, "activate": True})
    answer = await front.http.post(
        "/api/v1/tasks/execute?wait=0",
        json={
            "taskId": "camel",
            "input": {"camelCase": 2},
            "timeoutMs": 5,
            "forceValidation": True,
        },
    )
    assert answer.status_code == 202, answer.text
