"""Batches as lines: results while items still come, and bounded whatever the client does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from loopai.embedded.broker import Broker
from loopai.ingress import flow
from streams import codec, connection, provision, replay, topology
from tests.integration.ingress.problems import problem
from tests.integration.ingress.stream import PATH, Stream
from tests.system import System
from tests.wait import until
from workers import executor

LINES = "application/x-ndjson"
PICKY = """
def run(input):
    if input.startswith("bad"):
        raise ValueError(input)
    return input.upper()
"""
LONG = "def run(input):\n    return input * 10_000\n"

_decode_lines = msgspec.json.Decoder(dict[str, Any]).decode_lines

Open = Callable[..., Coroutine[Any, Any, Stream]]


@pytest.fixture
async def open_stream() -> AsyncIterator[Open]:
    """Opens streams that are closed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(system: System, **given: Any) -> Stream:
            stream = await Stream.opened(system.http.base_url, **given)
            stack.callback(stream.leave)
            return stream

        yield opened


def waiting(system: System) -> int:
    """Items whose records the ingress waits for."""
    return int(system.services.dispatcher.waiting)


async def recorded(bus: connection.Connection) -> list[str]:
    return [each.id async for each in replay.records(bus, tenant="default")]


async def stored(bus: connection.Connection) -> int:
    """Messages ever stored in EXECUTE."""
    return (await bus.jetstream.stream_info("EXECUTE")).state.last_seq


async def queued(bus: connection.Connection) -> int:
    """Items in EXECUTE, which keeps them while there is no worker."""
    messages = [each async for each in replay.read(bus, "EXECUTE", "loopai.v1.execute.>")]
    return sum(len(codec.EXECUTE.decode(each.payload).items) for each in messages)


async def post(system: System, content: bytes, **query: Any) -> list[dict[str, Any]]:
    """The lines of the answer to *content*, sent at once."""
    answer = await system.http.post(
        PATH, params={"task_id": "upper", **query}, content=content, headers={"Content-Type": LINES}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == LINES
    assert answer.headers["x-api-version"] == "1"
    assert answer.content.endswith(b"}\n")
    return _decode_lines(answer.content)


async def test_each_line_is_answered_by_a_line(system: System) -> None:
    """In the order of the lines, as in JSON; then comes the summary."""
    task = await system.create(code=PICKY)
    content = b'{"input":"a","id":"x"}\n{"input":"bad"}\n{"input":"b","force_validation":true}\n'
    first, second, third, last = await post(system, content)
    assert (first["id"], first["status"], first["output"]) == ("x", "success", "A")
    assert (second["id"], second["status"], second["output"]) == ("2", "error", None)
    assert (second["error"]["type"], second["error_message"]) == ("ValueError", "line 4: bad")
    assert (third["id"], third["output"], third["sampled_for_validation"]) == ("3", "B", True)
    assert {each["version"] for each in (first, second, third)} == {1}
    summary = last.pop("summary")
    assert last == {}
    assert summary["task_id"] == task["id"]
    assert (summary["total"], summary["succeeded"], summary["failed"]) == (3, 2, 1)
    assert summary["duration_ms"] > 0
    assert await recorded(system.bus) == [e["execution_id"] for e in (first, second, third)]


@pytest.mark.parametrize("media_type", ["application/ndjson", "Application/JSONL; charset=utf-8"])
async def test_lines_go_by_other_names_as_well(system: System, media_type: str) -> None:
    """There is no registered type, and these are in use."""
    await system.create()
    answer = await system.http.post(
        PATH,
        params={"taskId": "upper", "timeoutMs": 5000},
        content=b'{"input":"a","forceValidation":true}',
        headers={"Content-Type": media_type},
    )
    assert [each.get("output") for each in _decode_lines(answer.content)] == ["A", None]


async def test_lines_may_be_blank_end_in_crlf_or_not_at_all(system: System) -> None:
    """Blank lines count, so that a number is one that an editor shows; they have no results."""
    await system.create()
    content = b'\n{"input":"a"}\r\n\r\n  \n {"input":"b"} \n\n{"input":"c"}'
    *results, last = await post(system, content)
    assert [(each["id"], each["output"]) for each in results] == [
        ("2", "A"),
        ("5", "B"),
        ("7", "C"),
    ]
    assert last["summary"]["total"] == 3


async def test_no_lines_have_no_results(front: System) -> None:
    """Nothing asked, nothing done."""
    await front.create()
    for content in (b"", b"\n\r\n"):
        (last,) = await post(front, content)
        assert (last["summary"]["total"], last["summary"]["failed"]) == (0, 0)


async def test_a_line_that_is_no_item_is_answered_and_the_rest_runs(system: System) -> None:
    """Whatever is wrong with a line, its result says so with its number."""
    await system.create()
    limit = system.settings.body_bytes_max
    wrong = [
        (b"{", "MALFORMED_JSON", "the line is not JSON: "),
        (b"\xff", "MALFORMED_JSON", "the line is not JSON: "),
        (b'{"input":' + b"[" * 100_000, "MALFORMED_JSON", "the line is not JSON: "),
        (b'{"input":1}{"input":2}', "MALFORMED_JSON", "the line is not JSON: "),
        (b"7", "INVALID_REQUEST", "the line: Expected `object`"),
        (b"{}", "INVALID_REQUEST", "the line: Object missing required field `input`"),
        (b'{"input":"a","ID":1}', "INVALID_REQUEST", "/id: "),
        (b'{"input":"a","other":1}', "INVALID_REQUEST", "the line: "),
        (b'{"input":7}', "INVALID_INPUT", ", /input: 7 is not of type"),
        (b'{"input":"\\ud800"}', "MALFORMED_JSON", "the line is not JSON: "),
        (b'{"input":"%b"}' % (b"x" * limit), "BODY_TOO_LARGE", f"the line is larger than {limit}"),
    ]
    good = b'{"input":"a"}\n'
    content = b"".join(good + line + b"\n" for line, _, _ in wrong) + good
    *results, last = await post(system, content)
    assert [each["id"] for each in results] == [str(n + 1) for n in range(len(wrong) * 2 + 1)]
    assert [each["output"] for each in results[::2]] == ["A"] * (len(wrong) + 1)
    for number, (each, (_, code, message)) in enumerate(
        zip(results[1::2], wrong, strict=True), start=1
    ):
        assert (each["status"], each["execution_id"], each["error"]["type"]) == (
            "rejected",
            None,
            code,
        )
        start = f"line {number * 2}" + (message if message[0] == "," else f": {message}")
        assert each["error_message"].startswith(start)
    assert last["summary"]["failed"] == len(wrong)


async def test_the_longest_line_is_run(system: System) -> None:
    """The limit is that of a body, and not one byte less."""
    await system.create(code="def run(input):\n    return str(len(input))\n")
    line = b'{"input":"%b"}' % (b"x" * (system.settings.body_bytes_max - len(b'{"input":""}')))
    fits, over, _ = await post(system, line + b"\n" + line + b" \n")
    assert fits["output"] == str(system.settings.body_bytes_max - 12)
    assert over["error"]["type"] == "BODY_TOO_LARGE"


async def test_results_come_while_items_are_still_written(
    system: System, open_stream: Open
) -> None:
    """A client may wait for each result before it writes its next item."""
    await system.create()
    stream = await open_stream(system, headers="expect: 100-continue\r\n")
    await stream.head()
    assert stream.status == 100
    for n in range(3):
        await stream.send({"input": f"n{n}", "id": "same"})
        stream.status = stream.status if n else 0
        result = await stream.next()
        assert (result["id"], result["output"]) == ("same", f"N{n}")
    stream.end()
    results, last = await stream.rest()
    assert (results, last["summary"]["succeeded"]) == ([], 3)


async def test_results_may_come_as_they_are_there(front: System, open_stream: Open) -> None:
    """In order nothing overtakes the first item, which no worker takes; else the second does."""
    await front.create()
    items = ({"input": "a"}, {"input": 7})
    ordered = await open_stream(front, max_concurrency=2)
    await ordered.send(*items)
    other = await open_stream(front, max_concurrency=2, ordered="false")
    await other.send(*items)

    assert (await other.next())["id"] == "2"
    await ordered.head()
    assert ordered.reader._buffer == b""  # type: ignore[attr-defined]

    await front.start_pool(executor)
    assert (await other.next())["id"] == "1"
    assert [(await ordered.next())["id"] for _ in range(2)] == ["1", "2"]


async def test_a_stream_may_stop_at_its_first_error(system: System) -> None:
    """One at a time: what comes after the failed item is cancelled and never runs."""
    await system.create(code=PICKY)
    for wrong, status, runs in (
        (b'{"input":"bad"}', "error", 2),
        (b'{"input":7}', "rejected", 1),
        (b"{", "rejected", 1),
    ):
        before = len(await recorded(system.bus))
        content = b'{"input":"a"}\n' + wrong + b'\n{"input":"b"}\n{"input":"c"}\n'
        *results, last = await post(system, content, stop_on_first_error="true", max_concurrency=1)
        assert [each["status"] for each in results] == ["success", status, *["cancelled"] * 2]
        assert last["summary"]["failed"] == 3
        assert len(await recorded(system.bus)) - before == runs


async def test_wrong_parameters_are_refused_before_any_line_is_read(front: System) -> None:
    """The same limits as in JSON, and the name of what is wrong."""
    await front.create()
    await front.http.post("/api/v1/tasks", json={"name": "bare"})
    for query, code, named in (
        ({}, "INVALID_QUERY", "task_id"),
        ({"task_id": "upper", "ordered": "perhaps"}, "INVALID_QUERY", "ordered"),
        ({"task_id": "upper", "order": "true"}, "INVALID_QUERY", "order"),
        ({"task_id": "upper", "max_concurrency": "0"}, "INVALID_QUERY", "max_concurrency"),
        ({"task_id": "upper", "max_concurrency": "2049"}, "INVALID_QUERY", "max_concurrency"),
        ({"task_id": "upper", "timeout_ms": "0"}, "INVALID_QUERY", "timeout_ms"),
        ({"task_id": "upper", "version": "x"}, "INVALID_QUERY", "version"),
        ({"task_id": "upper", "version": "9"}, "ARTIFACT_NOT_FOUND", "9"),
        ({"task_id": "nobody"}, "TASK_NOT_FOUND", "nobody"),
        ({"task_id": "bare"}, "NO_ACTIVE_VERSION", "no active version"),
    ):
        answer = await front.http.post(
            PATH, params=query, content=b'{"input":"a"}', headers={"Content-Type": LINES}
        )
        assert named in problem(answer, code)["detail"]
    assert await stored(front.bus) == 0


async def test_a_client_that_leaves_costs_nothing_more(front: System, open_stream: Open) -> None:
    """Its items are not waited for and no more of them are sent; those on the bus stay there."""
    await front.create()
    stream = await open_stream(front, max_concurrency=16)
    await stream.send(*[{"input": "a"}] * 500)

    async def is_full() -> bool:
        return await queued(front.bus) == waiting(front) == 16

    await until(is_full)

    stream.leave()

    await until(lambda: waiting(front) == 0)
    await front.execute("a", timeout_ms=1)
    assert await queued(front.bus) == 16 + 1


async def test_a_client_that_leaves_a_json_batch_is_forgotten(front: System) -> None:
    """Also when its whole body has been read."""
    await front.create()
    body = {"task_id": "upper", "items": [{"input": "a"}] * 500, "max_concurrency": 16}
    with pytest.raises(httpx.ReadTimeout):
        await front.http.post(PATH, json=body, timeout=0.5)
    await until(lambda: waiting(front) == 0)
    await front.execute("a", timeout_ms=1)
    assert await queued(front.bus) <= 16 + 1


async def test_a_slow_reader_holds_up_its_own_items(system: System, open_stream: Open) -> None:
    """Nothing is taken in while results wait to be read; in the end all are there."""
    await system.create(code=LONG)
    count = 12_000
    stream = await open_stream(system)

    async def write() -> None:
        for _ in range(count // 100):
            await stream.send(*[{"input": "a"}] * 100)
        stream.end()

    writing = asyncio.create_task(write())
    most = done = -1
    while done != (done := len(await recorded(system.bus))) or not done:
        for _ in range(100):
            most = max(most, waiting(system))
            await asyncio.sleep(0.005)
    assert most <= flow.CONCURRENCY
    # A window, and what the sockets and the reader's own buffer hold at 10 kB each.
    assert done < count / 2

    results, last = await stream.rest()
    await writing
    assert [each["id"] for each in results] == [str(n + 1) for n in range(count)]
    assert last["summary"]["succeeded"] == count


async def test_a_client_that_writes_all_before_it_reads_is_told(
    broker: Broker, bus: connection.Connection, tmp_path: Path, open_stream: Open
) -> None:
    """It would wait for us, as we for it: the rest is dropped, and the last line says so."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(executor,), batch_idle_s=1
        )
        await system.create(code="def run(input):\n    return input * 10\n")
        stream = await open_stream(system)
        for _ in range(300):  # 30 MB, more than any socket takes
            await stream.send(*[{"input": "a" * 1000}] * 100)
        stream.end()

        results, last = await stream.rest()

        assert last["problem"]["code"] == "RESULTS_UNREAD"
        assert [each["id"] for each in results] == [str(n + 1) for n in range(len(results))]
        assert 0 < len(results) < 10_000
        assert waiting(system) == 0


async def test_a_full_queue_is_waited_for(broker: Broker, front: System, open_stream: Open) -> None:
    """A stream is a queue with backpressure: it goes on once there is room."""
    await provision.apply(front.bus, topology.topology(execute_backlog_max=1))
    await front.create()
    stream = await open_stream(front, max_concurrency=32)
    await stream.send(*[{"input": f"n{n}"} for n in range(100)])
    stream.end()
    await until(lambda: waiting(front) < 32)  # some were refused

    await front.start_pool(executor)

    results, last = await stream.rest()
    assert [each["output"] for each in results] == [f"N{n}" for n in range(100)]
    assert last["summary"]["succeeded"] == 100
    assert len(set(await recorded(front.bus))) == len(await recorded(front.bus)) == 100


async def test_a_queue_that_stays_full_is_told_of_at_the_timeout(front: System) -> None:
    """Each item has its own answer: late if it was queued, refused if it was not."""
    await provision.apply(front.bus, topology.topology(execute_backlog_max=1))
    await front.create()
    content = b'{"input":"a"}\n' * 4
    *results, _ = await post(front, content, max_concurrency=4, timeout_ms=500)
    codes = [each["error"]["type"] for each in results]
    assert sorted(codes) == ["BACKLOG_FULL"] * (4 - codes.count("DEADLINE_PASSED")) + [
        "DEADLINE_PASSED"
    ] * codes.count("DEADLINE_PASSED")
    assert codes.count("BACKLOG_FULL") > 0
    assert codes.count("DEADLINE_PASSED") > 0


async def test_a_stream_that_brings_nothing_is_ended(
    broker: Broker, bus: connection.Connection, tmp_path: Path, open_stream: Open
) -> None:
    """Not while something runs; then with a last line that says why."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack, broker, bus, tmp_path / "data", pools=(), batch_idle_s=1
        )
        await system.create()
        stream = await open_stream(system, timeout_ms=2_000)
        await stream.send({"input": "a"})

        results, last = await stream.rest()

        assert [each["status"] for each in results] == ["timeout"]
        assert last["problem"] == {"code": "INPUT_IDLE", "message": "no item came for 1 s"}
        assert last["summary"]["total"] == 1


async def test_a_hundred_thousand_lines_are_answered_and_recorded_once(system: System) -> None:
    """In order, in full messages, and each with an execution of its own."""
    await system.create()
    count = 100_000
    content = b"".join(b'{"input":"n%d"}\n' % n for n in range(count))
    *results, last = await post(system, content)
    assert [each["output"] for each in results] == [f"N{n}" for n in range(count)]
    assert last["summary"]["succeeded"] == count
    ids = await recorded(system.bus)
    assert len(ids) == len(set(ids)) == count
    assert {each["execution_id"] for each in results} == set(ids)
    assert await stored(system.bus) < count / 100
