"""Publishing straight to NATS: what `nats pub` can do, and what it gets told."""

import asyncio
from typing import Any

import msgspec
import pytest

from streams import codec, ids, publisher, replay, subjects, topology
from tests.system import System
from tests.wait import until

JSON = {"Content-Type": "application/json"}


async def _publish(
    system: System, payload: bytes, headers: dict[str, str] | None = None, task: str = "upper"
) -> dict[str, Any]:
    """Publish as any NATS client would; the answer on the reply subject."""
    inbox = system.bus.client.new_inbox()
    answers = await system.bus.client.subscribe(inbox)
    await system.bus.client.publish(
        f"loopai.v1.execute.interactive.default.{task}",
        payload,
        headers={**(JSON if headers is None else headers), "Loopai-Reply-To": inbox},
    )
    answer = await answers.next_msg(timeout=15)
    await answers.unsubscribe()
    if headers is None:
        decoded: dict[str, Any] = msgspec.json.decode(answer.data)
        return decoded
    (record,) = codec.RECORDS.decode(answer.data).records
    return msgspec.structs.asdict(record)


async def _dead(system: System) -> list[Any]:
    return [
        codec.DEAD.decode(m.payload)
        async for m in replay.read(system.bus, "DEAD", subjects.DEAD_ALL)
    ]


async def test_a_json_message_gets_its_answer_on_the_reply_subject(system: System) -> None:
    """One line of `nats pub` runs a program durably, and the audit has it."""
    await system.create()

    answer = await _publish(system, b'{"input": "hello"}')

    assert (answer["status"], answer["output"]) == ("success", "HELLO")
    (record,) = [r async for r in replay.records(system.bus, tenant="default")]
    assert record.id == answer["id"]
    found = await system.http.get(f"/api/v1/executions/{answer['id']}")
    assert found.json()["output"] == "HELLO"


async def test_a_publish_that_is_repeated_with_its_message_id_runs_once(system: System) -> None:
    """Whoever publishes directly and got no word publishes again, with the same `Nats-Msg-Id`."""
    await system.create()
    subject, body = "loopai.v1.execute.interactive.default.upper", b'{"input": "once"}'
    headers = {**JSON, "Nats-Msg-Id": "order-4711"}

    words = [await system.bus.jetstream.publish(subject, body, headers=headers) for _ in range(3)]
    await _publish(system, b'{"input": "after"}')

    assert [bool(word.duplicate) for word in words] == [False, True, True]
    recorded = [r.input async for r in replay.records(system.bus, tenant="default")]
    assert sorted(recorded) == [b'"after"', b'"once"']


async def test_a_task_with_a_dot_in_its_name_is_reached(system: System) -> None:
    """A dot travels as %2E, so a name is always one token."""
    await system.create("spam.filter.v2")

    answer = await _publish(system, b'{"input": "x"}', task="spam%2Efilter%2Ev2")

    assert answer["output"] == "X"


async def test_an_input_that_does_not_match_is_rejected_and_recorded(system: System) -> None:
    """Nobody validated for a direct publisher, so the executor does; the audit says so."""
    await system.create()

    answer = await _publish(system, b'{"input": 7}')

    assert answer["status"] == "rejected"
    assert answer["error"]["type"] == "INVALID_INPUT"
    assert "/input" in answer["error"]["message"]
    assert answer["input"] == 7


async def test_unknown_tasks_and_versions_are_rejected_and_recorded(system: System) -> None:
    """A message that was accepted always ends in the audit."""
    await system.create()

    nobody = await _publish(system, b'{"input": "x"}', task="nobody")
    version = await _publish(system, b'{"input": "x", "version": 9}')

    assert (nobody["status"], nobody["error"]["type"]) == ("rejected", "TASK_NOT_FOUND")
    assert (version["status"], version["error"]["type"]) == ("rejected", "ARTIFACT_NOT_FOUND")
    assert len([r async for r in replay.records(system.bus, tenant="default")]) == 2


async def test_a_message_that_cannot_be_read_goes_to_dead_and_stops_nobody(
    system: System,
) -> None:
    """Its publisher is told, DEAD has the reason and the original, the next message is run."""
    await system.create()

    told = await _publish(system, b'{"input": ')
    assert told["status"] == "error"
    assert told["error"]["type"] == "dead_letter"
    after = await _publish(system, b'{"input": "next"}')
    assert after["output"] == "NEXT"

    (letter,) = await _dead(system)
    assert (letter.reason, letter.payload, letter.stream) == (
        "undecodable",
        b'{"input": ',
        "EXECUTE",
    )
    assert "ExecuteRequest" in letter.detail


async def test_messages_of_every_wrong_shape_go_to_dead(system: System) -> None:
    """Bytes, subjects and ids that make no sense: each is kept with its reason, none kills."""
    await system.create()
    client = system.bus.client
    base = "loopai.v1.execute.interactive"
    await client.publish(f"{base}.default.upper", b"\xc1\xff")
    await client.publish(f"{base}.-tenant.upper", b'{"input": 1}', headers=JSON)
    await client.publish(f"{base}.default.upper", b"", headers=JSON)
    huge = b'{"input": "x", "version": 99999999999999999999}'
    await client.publish(f"{base}.default.upper", huge, headers=JSON)
    await client.publish(
        f"{base}.default.upper", b'{"input": "x", "id": "not-an-id"}', headers=JSON
    )

    async def all_dead() -> bool:
        return len(await _dead(system)) == 5

    await until(all_dead)
    reasons = sorted(letter.reason for letter in await _dead(system))
    assert reasons == ["rejected"] + ["undecodable"] * 4
    assert (await _publish(system, b'{"input": "alive"}'))["output"] == "ALIVE"


async def test_a_subject_of_no_queue_is_refused_at_the_door(system: System) -> None:
    """What no pool would ever take is not accepted either: a lane or a shape that there is not."""
    for subject in (
        "loopai.v1.execute.slow.default.upper",
        "loopai.v1.execute.default.upper",
        "loopai.v1.execute.interactive.default",
        "loopai.v1.execute.interactive.default.a.b.c.d",
        "loopai.v1.execute.interactive.99.0.default.upper",
        "loopai.v1.routed.deno.interactive.99.0.default.upper",
    ):
        with pytest.raises(publisher.NotPublished, match="no stream"):
            await publisher.publish(system.bus, subject, b"{}", message_id=subject)


async def test_expired_work_is_not_run(system: System) -> None:
    """What nobody waits for any more is recorded as a timeout, and no program sees it."""
    await system.create()
    late = msgspec.msgpack.encode({"items": [{"id": ids.new(), "input": b'"x"', "deadline_ms": 1}]})

    record = await _publish(system, late, {"x": "y"})

    assert record["status"] == "timeout"
    assert record["error"].type == "deadline_exceeded"
    assert record["program_id"] is None


async def test_one_task_after_another_is_deleted_and_made_again(system: System) -> None:
    """Work for a deleted task never runs under a new task of the same name."""
    old = await system.create()
    (await system.http.delete("/api/v1/tasks/upper")).raise_for_status()
    await system.create(code="def run(input):\n    return 'new'\n")
    batch = {
        "items": [{"id": ids.new(), "input": b'"x"', "deadline_ms": 2**52}],
        "task_id": old["id"],
    }

    record = await _publish(system, msgspec.msgpack.encode(batch), {"x": "y"})

    assert (record["status"], record["error"].type) == ("rejected", "TASK_NOT_FOUND")


async def test_a_batch_may_mix_versions_and_good_and_bad_items(system: System) -> None:
    """Each item gets what is its own, in the order of the batch."""
    await system.create()
    second = {"language": "python", "code": "def run(input):\n    return input + '!'\n"}
    (await system.http.post("/api/v1/tasks/upper/artifacts", json=second)).raise_for_status()
    wanted: list[tuple[bytes, int | None]] = [(b'"a"', None), (b'"b"', 2), (b"3", 1), (b'"c"', 1)]
    items = [
        {"id": ids.new(), "input": value, "version": version, "deadline_ms": 2**52}
        for value, version in wanted
    ]
    inbox = system.bus.client.new_inbox()
    answers = await system.bus.client.subscribe(inbox)
    await system.bus.client.publish(
        subjects.execute("bulk", "default", "upper"),
        msgspec.msgpack.encode({"items": items}),
        headers={"Loopai-Reply-To": inbox},
    )

    async with asyncio.timeout(15):
        records = codec.RECORDS.decode((await answers.next_msg(timeout=15)).data).records

    assert [r.id for r in records] == [item["id"] for item in items]
    assert [r.output for r in records] == [b'"A"', b'"b!"', None, b'"C"']
    assert [r.version for r in records] == [1, 2, 1, 1]


async def test_an_answer_goes_to_no_subject_of_the_broker_or_of_ours(system: System) -> None:
    """A publisher must not write with a worker's rights: into the audit, a bucket, JetStream."""
    task = await system.create()
    refused = (
        "loopai.v1.record.other.task",
        "loopai.v1.execute.bulk.other.task",
        "$KV.tasks.default.upper",
        "$JS.API.STREAM.PURGE.RECORDS",
        "a b",
        "a.>",
        "a..b",
        "",
    )
    for reply_to in refused:
        headers = {**JSON, "Loopai-Reply-To": reply_to}
        subject = "loopai.v1.execute.interactive.default.upper"
        await system.bus.client.publish(subject, b'{"input": "x"}', headers=headers)
        broken = {**JSON, "Loopai-Reply-To": reply_to}
        await system.bus.client.publish(subject, b'{"input": ', headers=broken)

    async def settled() -> bool:
        execute = await system.bus.jetstream.stream_info("EXECUTE")
        return execute.state.last_seq >= 2 * len(refused) and execute.state.messages == 0

    await until(settled)
    stored = [m async for m in replay.read(system.bus, "RECORDS", subjects.RECORD_ALL)]
    assert {m.subject for m in stored} == {"loopai.v1.record.default.upper"}
    assert len([r async for r in replay.records(system.bus, tenant="default")]) == len(refused)
    assert len(await _dead(system)) == len(refused)
    assert (await system.http.get("/api/v1/tasks/upper")).json() == task


async def test_batches_that_count_an_item_twice_or_too_many_go_to_dead(system: System) -> None:
    """Two items of one id could not both be recorded, and a batch has a size."""
    await system.create()
    one = {"id": ids.new(), "input": b'"x"', "deadline_ms": 2**52}
    many = [{**one, "id": ids.new()} for _ in range(topology.ITEMS_MAX + 1)]
    for items in ([one, one], many):
        payload = msgspec.msgpack.encode({"items": items})
        await system.bus.client.publish("loopai.v1.execute.bulk.default.upper", payload)

    async def dead() -> bool:
        return len(await _dead(system)) == 2

    await until(dead)
    assert {letter.reason for letter in await _dead(system)} == {"undecodable"}
    assert [r async for r in replay.records(system.bus, tenant="default")] == []


async def test_an_id_used_again_gets_the_record_that_there_is(system: System) -> None:
    """Nobody is told what the audit does not hold."""
    await system.create()
    execution_id = ids.new()

    first = await _publish(system, b'{"input": "a", "id": "%s"}' % execution_id.encode())
    again = await _publish(system, b'{"input": "b", "id": "%s"}' % execution_id.encode())

    assert (first["output"], again["output"]) == ("A", "A")
    (record,) = [r async for r in replay.records(system.bus, tenant="default")]
    assert record.output == b'"A"'


async def test_a_batch_whose_first_item_was_recorded_in_another_loses_no_item(
    system: System,
) -> None:
    """The broker takes the second batch's record for a repetition of the first one's."""
    await system.create()
    shared, *others = (
        {"id": ids.new(), "input": value, "deadline_ms": 2**52}
        for value in (b'"a"', b'"b"', b'"c"')
    )
    for other in others:
        payload = msgspec.msgpack.encode({"items": [shared, other]})
        await system.bus.client.publish("loopai.v1.execute.bulk.default.upper", payload)

    async def recorded() -> bool:
        return len([r async for r in replay.records(system.bus, tenant="default")]) >= 3

    await until(recorded)
    records = [r async for r in replay.records(system.bus, tenant="default")]
    assert sorted(r.output or b"" for r in records) == [b'"A"', b'"B"', b'"C"']


async def test_an_id_in_use_elsewhere_takes_nobodys_record_away(system: System) -> None:
    """Two tasks may get the same id from their publishers: both executions are recorded."""
    await system.create()
    await system.create("lower")
    execution_id = ids.new()
    body = b'{"input": "a", "id": "%s"}' % execution_id.encode()

    await _publish(system, body)
    await _publish(system, body, task="lower")

    records = [r async for r in replay.records(system.bus, tenant="default")]
    assert sorted(r.task for r in records) == ["lower", "upper"]


async def test_what_is_too_large_for_dead_is_refused_at_the_door(system: System) -> None:
    """A dead letter holds the whole original: what it cannot hold must not be accepted."""
    await system.create()
    subject = "loopai.v1.execute.interactive.default.upper"
    largest = b"x" * (topology.ORIGINAL_BYTES_MAX - 100)
    with pytest.raises(publisher.NotPublished, match="size"):
        await publisher.publish(system.bus, subject, largest + b"x" * 100, message_id="too large")

    await publisher.publish(system.bus, subject, largest, message_id="largest")

    async def dead() -> bool:
        return len(await _dead(system)) == 1

    await until(dead)
