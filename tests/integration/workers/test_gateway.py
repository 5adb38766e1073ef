"""Calls over NATS: what any client's plain request gets, and that nothing is lost on the way."""

import asyncio
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg

from loopai.embedded.broker import Broker
from loopai.sandbox import limits
from streams import connection, replay
from tests.system import System
from tests.wait import until
from workers import executor, gateway

SUBJECT = "loopai.v1.call.default.upper"
MSGPACK = {"Content-Type": "application/msgpack"}
SLOW = """
from datetime import datetime, timedelta
def run(input):
    end = datetime.now() + timedelta(seconds=0.5)
    while datetime.now() < end:
        pass
    return input
"""


@pytest.fixture
async def called(system: System) -> System:
    """The system with a gateway and the task `upper`."""
    await system.start_pool(gateway)
    await system.create()
    return system


async def call(
    system: System,
    payload: bytes = b'{"input": "hello"}',
    headers: dict[str, str] | None = None,
    subject: str = SUBJECT,
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a plain request gets: the document and its headers."""
    answer = await system.bus.client.request(subject, payload, timeout=15, headers=headers)
    return msgspec.json.decode(answer.data, type=dict[str, Any]), answer.headers or {}


async def refused(system: System, *given: Any, **named: Any) -> tuple[str, str]:
    """Code and detail of the error that a call gets, which is well formed in every way."""
    document, headers = await call(system, *given, **named)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Nats-Service-Error-Code"] == str(document["status"])
    assert headers["Nats-Service-Error"].startswith(f"{document['code']}: ")
    assert len(document["trace_id"]) == 32
    return document["code"], document["detail"]


async def recorded(system: System) -> list[Any]:
    return [r async for r in replay.records(system.bus, tenant="default")]


async def test_a_plain_request_gets_the_recorded_result(called: System) -> None:
    """What `nats req` prints is what HTTP answers, and the audit has it."""
    document, headers = await call(called)

    assert (document["status"], document["output"]) == ("success", "HELLO")
    assert headers == {"Content-Type": "application/json"}
    over_http = (await called.execute("hello")).json()
    assert document.keys() == over_http.keys()
    assert document["id"] in {record.id for record in await recorded(called)}


async def test_a_program_that_fails_is_an_answer(called: System) -> None:
    """The call has worked; that the program has not is its result, as over HTTP."""
    await called.create("broken", "def run(input):\n    raise ValueError('no')\n")

    document, headers = await call(called, subject="loopai.v1.call.default.broken")

    assert document["status"] == "error"
    assert "Nats-Service-Error" not in headers


async def test_msgpack_says_the_same_as_json(called: System) -> None:
    """A caller may send msgpack; the result comes in JSON either way."""
    payload = msgspec.msgpack.encode({"input": "hello", "version": 1})

    document, _ = await call(called, payload, MSGPACK)

    assert (document["status"], document["output"]) == ("success", "HELLO")


async def test_options_come_in_the_body_or_in_headers(called: System) -> None:
    """A header says what the body leaves out, and never what the body says."""
    code, detail = await refused(called, headers={"Loopai-Version": "7"})
    assert (code, detail) == ("ARTIFACT_NOT_FOUND", "the task has no version 7")

    document, _ = await call(
        called,
        b'{"input": "a", "version": 1}',
        {
            "Loopai-Version": "7",
            "Loopai-Timeout-Ms": "5000",
            "Loopai-Force-Validation": "true",
            "Loopai-Routing-Key": "anna",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        },
    )
    assert (document["version"], document["trace_id"]) == (1, "a" * 32)


@pytest.mark.parametrize(
    ("payload", "headers", "code", "names"),
    [
        (b'{"input": 7}', {}, "INVALID_INPUT", "/input"),
        (b'{"input": ', {}, "MALFORMED_JSON", "not JSON"),
        (b"", {}, "MALFORMED_JSON", "not JSON"),
        (b'{"inputs": "x"}', {}, "INVALID_REQUEST", "inputs"),
        (b'{"input": "x", "timeout_ms": 0}', {}, "INVALID_REQUEST", "/timeout_ms"),
        (b'{"input": "x", "routing_key": ""}', {}, "INVALID_REQUEST", "/routing_key"),
        (b'{"input": ' + b"[" * 100_000, {}, "MALFORMED_JSON", "not JSON"),
        (b'{"input": "x"}', {"Content-Type": "text/plain"}, "INVALID_QUERY", "Content-Type"),
        (b'{"input": "x"}', {"Loopai-Version": "one"}, "INVALID_QUERY", "Loopai-Version"),
        (b'{"input": "x"}', {"Loopai-Timeout-Ms": "9" * 30}, "INVALID_QUERY", "Loopai-Timeout-Ms"),
        (b'{"input": "x"}', {"Loopai-Force-Validation": "1"}, "INVALID_QUERY", "true or false"),
        (b'{"input": "x"}', {"Loopai-Routing-Key": "k" * 257}, "INVALID_QUERY", "Routing-Key"),
        (b"\xc1", MSGPACK, "MALFORMED_JSON", "not msgpack"),
        (b"\x81\xa5input", MSGPACK, "MALFORMED_JSON", "not msgpack"),
        (b"\x81\xa5input\xc7\x01\x05a", MSGPACK, "INVALID_REQUEST", "/input"),
        (b"\x81\xa5input" + b"\x91" * 100_000, MSGPACK, "MALFORMED_JSON", "not msgpack"),
    ],
)
async def test_bad_input_is_told_by_its_name(
    called: System, payload: bytes, headers: dict[str, str], code: str, names: str
) -> None:
    """Nothing is run, and the error says which field is wrong and what is expected."""
    found, detail = await refused(called, payload, headers)

    assert found == code
    assert names in detail
    assert await recorded(called) == []


async def test_unknown_tasks_and_names_that_are_none(called: System) -> None:
    """A task of no name is refused; a subject of another shape has nobody who answers."""
    code, _ = await refused(called, subject="loopai.v1.call.default.nobody")
    assert code == "TASK_NOT_FOUND"
    code, _ = await refused(called, subject="loopai.v1.call.other.upper")
    assert code == "TASK_NOT_FOUND"
    code, _ = await refused(called, subject="loopai.v1.call.default.-x-")
    assert code == "TASK_NOT_FOUND"
    with pytest.raises(nats.errors.NoRespondersError):
        await call(called, subject="loopai.v1.call.default.upper.more")


async def test_a_payload_past_the_limits_is_refused(called: System) -> None:
    """The input has a limit, and so has the whole payload."""
    most = limits.Limits().input_bytes_max
    await called.stop_pool(gateway)
    await called.start_pool(gateway, body_bytes_max=most + 100)

    large = b'{"input": "%s"}' % (b"x" * (most - 2))
    assert len(large) <= most + 100
    assert (await call(called, large))[0]["execution_id"]  # run, whatever it comes to
    code, detail = await refused(called, b'{"input": "%s"}' % (b"x" * (most - 1)))
    assert (code, detail) == ("BODY_TOO_LARGE", f"/input is larger than {most} bytes")
    code, detail = await refused(called, b" " * (most + 101))
    assert (code, detail) == ("BODY_TOO_LARGE", f"the payload is larger than {most + 100} bytes")


async def test_without_an_executor_the_deadline_is_told_with_the_id(called: System) -> None:
    """The call is queued and stays so: the error names the execution to look up."""
    await called.stop_pool(executor)

    document, headers = await call(called, b'{"input": "late", "timeout_ms": 200}')

    assert document["code"] == "DEADLINE_PASSED"
    assert headers["Nats-Service-Error-Code"] == "504"
    await called.start_pool(executor)
    await until(lambda: _is_recorded(called, document["execution_id"]))


async def _is_recorded(system: System, execution_id: str) -> bool:
    return execution_id in {record.id for record in await recorded(system)}


async def test_more_callers_than_may_wait_are_told_to_try_again(called: System) -> None:
    """Refused at once with a hint when, while those who wait get their results."""
    await called.create("slow", SLOW)
    await called.stop_pool(gateway)
    await called.start_pool(gateway, waiting_max=2)
    subject = "loopai.v1.call.default.slow"

    answers = await asyncio.gather(*(call(called, subject=subject) for _ in range(6)))

    codes = sorted(document.get("code", "") for document, _ in answers)
    assert codes == ["", "", "OVERLOADED", "OVERLOADED", "OVERLOADED", "OVERLOADED"]
    assert {h.get("Retry-After") for d, h in answers if "code" in d} == {"1"}


async def test_a_full_backlog_is_told_with_a_hint(called: System) -> None:
    """A tenant that has as much queued as it may have gets no more in."""
    await called.stop_pool(executor)
    await called.stop_pool(gateway)
    await called.start_pool(gateway, tenant_backlog_max=1)
    await call(called, b'{"input": "x", "timeout_ms": 100}')

    async def is_full() -> bool:
        document, headers = await call(called, b'{"input": "x", "timeout_ms": 100}')
        return (document["code"], headers.get("Retry-After")) == ("BACKLOG_FULL", "1")

    await until(is_full)


async def test_a_caller_that_goes_away_is_recorded_all_the_same(
    called: System, broker: Broker
) -> None:
    """What was accepted ends in the audit, whoever is there to hear of it."""
    gone = await connection.connect(broker.url, name="gone")
    await gone.client.publish(SUBJECT, b'{"input": "gone"}', reply=gone.client.new_inbox())
    await gone.close()

    async def is_recorded() -> bool:
        return [record.output for record in await recorded(called)] == [b'"GONE"']

    await until(is_recorded)
    assert (await call(called))[0]["output"] == "HELLO"


@pytest.mark.parametrize(
    "reply", ["", "$JS.API.STREAM.PURGE.RECORDS", "loopai.v1.record.default.upper"]
)
async def test_nobody_is_answered_where_a_caller_must_not_write(called: System, reply: str) -> None:
    """A gateway writes with its own rights: not into the audit, not to the broker."""
    await called.bus.client.publish(SUBJECT, b'{"input": "x"}', reply=reply)

    assert (await call(called))[0]["output"] == "HELLO"
    assert len(await recorded(called)) == 1
    (endpoint,) = (await _asked(called, "$SRV.STATS.loopai"))[0]["endpoints"]
    assert (endpoint["num_requests"], endpoint["num_errors"]) == (2, 1)


async def _asked(system: System, subject: str, answers: int = 1) -> list[dict[str, Any]]:
    """What so many instances answer on *subject*."""
    inbox = system.bus.client.new_inbox()
    subscription = await system.bus.client.subscribe(inbox)
    await system.bus.client.publish(subject, b"", reply=inbox)
    found = [await subscription.next_msg(timeout=15) for _ in range(answers)]
    await subscription.unsubscribe()
    return [msgspec.json.decode(each.data) for each in found]


async def test_gateways_are_found_and_tell_how_they_do(called: System) -> None:
    """`nats micro info`, `ping` and `stats` see every instance, with its counts."""
    await called.start_pool(gateway, "gateway-other")
    for _ in range(8):
        await call(called)
    await refused(called, b"")

    pings = await _asked(called, "$SRV.PING", 2)
    assert {ping["type"] for ping in pings} == {"io.nats.micro.v1.ping_response"}
    assert len({ping["id"] for ping in pings}) == 2
    (info,) = await _asked(called, f"$SRV.INFO.loopai.{pings[0]['id']}")
    (endpoint,) = info["endpoints"]
    assert (endpoint["subject"], endpoint["queue_group"]) == ("loopai.v1.call.*.*", "gateway")
    stats = [each["endpoints"][0] for each in await _asked(called, "$SRV.STATS.loopai", 2)]
    assert sum(each["num_requests"] for each in stats) == 9
    assert sum(each["num_errors"] for each in stats) == 1
    assert all(each["processing_time"] > 0 for each in stats if each["num_requests"])
    assert any("MALFORMED_JSON" in each["last_error"] for each in stats)


async def test_a_gateway_that_stops_finishes_what_it_has_begun(called: System) -> None:
    """SIGTERM: calls that are under way get their results, and no more are taken."""
    await called.create("slow", SLOW)
    calls = [
        asyncio.create_task(call(called, subject="loopai.v1.call.default.slow")) for _ in range(3)
    ]
    await until(lambda: _requests_are_queued(called))

    await called.stop_pool(gateway)

    assert {(await each)[0]["status"] for each in calls} == {"success"}
    with pytest.raises(nats.errors.NoRespondersError):
        await call(called)


async def _requests_are_queued(system: System) -> bool:
    return (await system.bus.jetstream.stream_info("EXECUTE")).state.messages > 0


async def test_a_gateway_that_cannot_wait_says_what_becomes_of_calls(
    called: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its drain a call is told to look its execution up, and it is recorded."""
    monkeypatch.setattr("workers.runtime.DRAIN_S", 0.1)
    await called.create("slow", SLOW)
    waiting = asyncio.create_task(call(called, subject="loopai.v1.call.default.slow"))
    await until(lambda: _requests_are_queued(called))

    await called.stop_pool(gateway)

    document, headers = await waiting
    assert (document["code"], headers["Retry-After"]) == ("UNAVAILABLE", "1")
    await until(lambda: _is_recorded(called, document["execution_id"]))


@pytest.mark.timeout(120)
async def test_no_call_is_lost_while_gateways_restart(called: System) -> None:
    """1,000 calls, three gateways that come and go: each is answered once, records match."""
    names = ["gateway-test", "gateway-b", "gateway-c"]
    for name in names[1:]:
        await called.start_pool(gateway, name)
    inbox = called.bus.client.new_inbox()
    heard: dict[str, list[Msg]] = {}

    async def hear(message: Msg) -> None:
        heard.setdefault(message.subject, []).append(message)

    await called.bus.client.subscribe(f"{inbox}.*", cb=hear)
    ended = asyncio.Event()

    async def restart() -> None:
        while not ended.is_set():
            for name in names:
                seen = len(heard)
                await called.stop_pool(gateway, name)
                await called.start_pool(gateway, name)
                await until(lambda seen=seen: ended.is_set() or len(heard) >= seen + 20, 30)

    restarting = asyncio.create_task(restart())
    gate = asyncio.Semaphore(64)

    async def one(number: int) -> None:
        reply, payload = f"{inbox}.{number}", b'{"input": "n%d"}' % number
        async with gate:
            await called.bus.client.publish(SUBJECT, payload, reply=reply)
            await until(lambda: reply in heard, 30)

    async with asyncio.TaskGroup() as group:
        for number in range(1_000):
            group.create_task(one(number))
    ended.set()
    await restarting

    assert len(heard) == 1_000
    assert {len(answers) for answers in heard.values()} == {1}
    done = {}
    for subject, (answer,) in heard.items():
        if (answer.headers or {}).get("Nats-Service-Error-Code") or not answer.data:
            # No gateway was there at that moment, or it said so itself: both mean, try again.
            assert (answer.headers or {}).get("Status") == "503" or b"UNAVAILABLE" in answer.data
            continue
        document = msgspec.json.decode(answer.data)
        assert document["output"] == f"N{subject.rpartition('.')[2]}"
        done[document["id"]] = document["output"]
    assert len(done) > 900
    records = {r.id: msgspec.json.decode(r.output or b"") for r in await recorded(called)}
    assert records.items() >= done.items()
    assert len(await recorded(called)) == len(records)


async def test_a_reason_fits_into_a_header(called: System) -> None:
    """On one line, in ASCII and cut; the payload has all of it."""
    name = "é\n" + "x" * 300
    payload = msgspec.json.encode({"input": "x", name: 1})

    document, headers = await call(called, payload)

    assert document["code"] == "INVALID_REQUEST"
    assert name in document["detail"]
    reason = headers["Nats-Service-Error"]
    assert len(reason) == gateway.REASON_CHARACTERS_MAX
    assert reason.isascii()
    assert "\\xe9 xxx" in reason
