"""The other commands against a running Loopai, in the order in which people use them."""

import signal

import msgspec
import pytest

SCHEMA = '{"type": "object", "properties": {"hours": {"type": "integer"}}}'
GRADES = '{"type": "string", "enum": ["pass", "fail"]}'


@pytest.fixture
async def call(loopai):
    """Calls `loopai …` against a dev of its own; gives exit code, stdout and lines of stderr."""
    dev = await loopai("dev", "--json", "--http", "127.0.0.1:0", "--nats-port", "0")
    where = msgspec.json.decode(await dev.out('"ready"'))
    urls = {"LOOPAI_URL": where["url"], "LOOPAI_NATS_URL": where["nats_url"]}

    async def run(*arguments, stdin=b""):
        command = await loopai(*arguments, **urls)
        return await command.ended(stdin), command.stdout, command.lines

    yield run
    dev.signal(signal.SIGTERM)
    assert await dev.ended() == 0


@pytest.fixture
def examples(tmp_path):
    lines = ["hours,grade", *(f"{at},{'pass' if at >= 50 else 'fail'}" for at in range(100))]
    (tmp_path / "examples.csv").write_text("\n".join(lines))
    return "examples.csv"


async def test_from_a_task_to_its_audit_log(call, examples):
    """Create, list, show, generate, run, tail, get: each sees what the one before has done."""
    code, out, err = await call(
        "task", "create", "grade", "--input-schema", SCHEMA, "--output-schema", GRADES,
        "--examples", examples,
    )  # fmt: skip
    assert code == 0, err
    assert "grade created, with 100 examples" in out

    _, out, _ = await call("task", "list")
    assert "grade" in out
    _, out, _ = await call("task", "show", "grade", "--json")
    assert len(msgspec.json.decode(out)["examples"]) == 100

    code, out, err = await call("run", "grade", '{"hours": 1}')
    assert (code, out) == (1, "")
    assert err[0].startswith("error: NO_ACTIVE_VERSION: ")

    code, out, err = await call("task", "generate", "grade", "--json")
    assert code == 0, err
    assert msgspec.json.decode(out)["version"] == 1

    assert (await call("run", "grade", '{"hours": 90}'))[:2] == (0, '"pass"\n')
    code, out, _ = await call("run", "grade", "-", "--json", stdin=b'{"hours": 10}')
    assert code == 0
    execution = msgspec.json.decode(out)
    assert execution["output"] == "fail"

    code, out, err = await call("audit", "tail", "grade", "--json")
    assert code == 0, err
    records = [msgspec.json.decode(line) for line in out.splitlines()]
    assert [record["output"] for record in records] == ["pass", "fail"]
    assert records[1]["id"] == execution["id"]
    _, out, _ = await call("audit", "tail", "--limit", "1")
    assert len(out.splitlines()) == 1
    _, out, _ = await call("audit", "get", execution["id"], "--json")
    assert msgspec.json.decode(out)["input"] == {"hours": 10}


async def test_a_program_of_ones_own_becomes_the_next_version(call, tmp_path):
    """Uploaded from a file or stdin it answers; refused, it says where; failing, what happened."""
    (tmp_path / "task.json").write_text('{"name": "own"}')
    (tmp_path / "half.py").write_text(
        "def run(input):\n    print('saw', input)\n    return 10 / input\n"
    )
    assert (await call("task", "create", "--from", "task.json"))[0] == 0

    code, out, err = await call("task", "upload", "own", "half.py")
    assert code == 0, err
    assert out.startswith("version 1 (active): 62 bytes of python, isolation shared\n")
    assert (await call("run", "own", "4"))[:2] == (0, "2.5\n")

    code, out, _ = await call(
        "task", "upload", "own", "-", "--language", "python", "--isolation", "call",
        "--no-activate", "--json", stdin=b"def run(input):\n    return 1\n",
    )  # fmt: skip
    stored = msgspec.json.decode(out)
    assert (stored["version"], stored["isolation"], stored["status"]) == (2, "call", "validated")

    code, out, err = await call("run", "own", "0")
    assert (code, out) == (1, "")
    assert err[0] == "saw 0"
    assert err[1] == "error (ZeroDivisionError): line 3: division by zero"
    assert any('", line 3, in run' in line for line in err[2:-1])
    assert err[-1].startswith("error: the program ended with error (execution ")
    execution = err[-1].rpartition("execution ")[2].rstrip(")")
    _, out, _ = await call("audit", "get", execution)
    assert "error_outcome" in out
    assert "ZeroDivisionError" in out

    (tmp_path / "broken.py").write_text("def run(input):\n    return (\n")
    code, out, err = await call("task", "upload", "own", "broken.py")
    assert (code, out) == (1, "")
    assert err[0].startswith("error: INVALID_PROGRAM: line 2: "), err


async def test_problems_are_readable(call, examples):
    """Each problem of the API is a code, a sentence and the path, with exit code 1."""
    schemas = ("--input-schema", SCHEMA, "--output-schema", GRADES)
    assert (await call("task", "create", "grade", *schemas, "--examples", examples))[0] == 0
    for arguments, message in (
        (("task", "create", "grade", *schemas), "TASK_ALREADY_EXISTS: "),
        (("task", "create", "a b", *schemas), "INVALID_REQUEST: /name: "),
        (("task", "show", ".."), "TASK_NOT_FOUND: no task '..'"),
        (("run", "nobody", "1"), "TASK_NOT_FOUND: "),
        (("run", "grade", "many"), 'INPUT is not JSON; grade takes {"hours": …}'),
        (("run", "grade", "@none.json"), "none.json: No such file or directory"),
        (("audit", "get", "x"), "EXECUTION_NOT_FOUND: "),
        (("audit", "tail", "a b"), "'a b' is no name of a task"),
        (("audit", "tail", "--nats-url", "nats://127.0.0.1:9"), "no NATS broker with JetStream"),
        (("task", "create", "--from", "-"), "stdin is not JSON"),
        (("task", "show", ""), "'' is neither a name nor an id"),
        (("audit", "get", "a/b"), "'a/b' is neither a name nor an id"),
    ):
        code, out, err = await call(*arguments)
        assert (code, out) == (1, ""), arguments
        assert err[0].startswith(f"error: {message}")


async def test_a_bare_word_is_text_where_the_task_takes_text(call, tmp_path):
    """What is not JSON becomes a JSON string if, and only if, the schema asks for one."""
    texts = [("spam", f"win prize {at}") for at in range(60)]
    texts += [("ham", f"see you later {at}") for at in range(60)]
    (tmp_path / "task.json").write_bytes(
        msgspec.json.encode(
            {
                "name": "text",
                "input_schema": {"type": "string"},
                "output_schema": {"type": "string", "enum": ["ham", "spam"]},
                "examples": [{"input": text, "output": label} for label, text in texts],
            }
        )
    )
    assert (await call("task", "create", "--from", "task.json"))[0] == 0
    code, _, err = await call("task", "generate", "text")
    assert code == 0, err
    assert (await call("run", "text", "win a prize"))[:2] == (0, '"spam"\n')


async def test_a_version_is_rolled_out_step_by_step_and_taken_back(call, tmp_path):
    """Shadow, canary, promotion, rollback: each prints the rollout as it is then."""
    (tmp_path / "task.json").write_text('{"name": "own"}')
    assert (await call("task", "create", "--from", "task.json"))[0] == 0
    for number in (1, 2):
        program = f"def run(input):\n    return {number}\n".encode()
        code, _, err = await call(
            "task", "upload", "own", "-", "--language", "python", "--no-activate", stdin=program
        )
        assert code == 0, err

    code, out, err = await call("rollout", "show", "own")
    assert code == 0, err
    assert "none" in out
    assert "history" not in out
    code, out, err = await call("rollout", "canary", "own", "2", "10")
    assert code == 1
    assert err[0].startswith("error: INVALID_REQUEST: /canary/version: the task has no active")

    async def changed(*arguments):
        code, out, err = await call("rollout", *arguments, "--json")
        assert code == 0, err
        found = msgspec.json.decode(out)
        return found["active"], found["canary"] and found["canary"]["percent"], found["shadow"]

    assert await changed("activate", "own", "1") == (1, None, None)
    assert await changed("shadow", "own", "2") == (1, None, 2)
    assert (await call("run", "own", "null"))[1] == "1\n"
    code, out, err = await call("audit", "tail", "own", "--shadow", "--follow", "--limit", "1")
    assert code == 0, err
    assert "v2  success" in out
    _, out, _ = await call("audit", "tail", "own")
    assert "v1  success" in out
    assert len(out.splitlines()) == 1
    assert await changed("shadow", "own", "--off") == (1, None, None)
    assert await changed("canary", "own", "2", "10") == (1, 10, None)
    assert await changed("canary", "own", "--off") == (1, None, None)
    assert await changed("canary", "own", "2", "100") == (1, 100, None)
    assert (await call("run", "own", "null"))[1] == "2\n"
    assert await changed("promote", "own") == (2, None, None)
    assert await changed("rollback", "own") == (1, None, None)
    assert (await call("run", "own", "null"))[1] == "1\n"

    code, out, err = await call("rollout", "show", "own")
    assert code == 0, err
    assert "version 1" in out
    assert out.index("rollback") < out.index("promote") < out.index("shadow off")
    for arguments, message in (
        (("rollback", "own"), "NO_PREVIOUS_VERSION: "),
        (("promote", "own"), "NO_CANARY: "),
        (("activate", "own", "9"), "ARTIFACT_NOT_FOUND: "),
        (("canary", "own", "2", "101"), "INVALID_REQUEST: /canary/percent: expected 0.01 to 100"),
        (("show", "nobody"), "TASK_NOT_FOUND: "),
    ):
        code, out, err = await call("rollout", *arguments)
        assert (code, out) == (1, ""), arguments
        assert err[0].startswith(f"error: {message}"), err
    for arguments in (
        ("canary", "own"),
        ("canary", "own", "2"),
        ("canary", "own", "2", "5", "--off"),
        ("shadow", "own"),
        ("shadow", "own", "2", "--off"),
        ("activate", "own"),
        ("activate", "own", "0"),
    ):
        assert (await call("rollout", *arguments))[0] == 2, arguments
