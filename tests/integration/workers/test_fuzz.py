"""Hostile messages on every subject: nobody dies of one, and none is lost.

Each example is a handful of messages. What a stream has taken must end in RECORDS or DEAD, what
asks must be answered, and the next good message must be served as if nothing had been.
"""

import asyncio
import string
from collections.abc import Awaitable, Callable
from typing import Any

import hypothesis
import msgspec
import nats.errors
import pytest
from hypothesis import strategies as st

from streams import acks, codec, ids, replay, subjects, topology
from tests.contract import samples
from tests.system import System
from tests.wait import until
from workers import gateway

EXAMPLES = 40
"""Of each test, with up to eight messages each: about five seconds."""
FAR_MS = 2**52
WORKERS = ("executor-test", "generator-test", "recorder-test", "gateway-test")

Message = tuple[str, bytes, dict[str, str]]

# Empty tokens, blanks and wildcards are refused by every client and by the broker itself.
tokens = st.one_of(
    st.sampled_from(
        ["default", "upper", "acme", "nobody", "3", "a%2Eb", "%2E", "%", "-", "_", "$"]
    ),
    st.text(
        st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters=".*>"),
        min_size=1,
        max_size=12,
    ),
    st.integers(100, 300).map(lambda size: "x" * size),
)
header_values = st.one_of(
    st.sampled_from(
        ["application/json", "APPLICATION/JSON ; charset=x", "application/msgpack", "text/plain"]
    ),
    st.sampled_from(
        ["$JS.API.INFO", "loopai.v1.record.a.b", "a b", ">", "-1", "9" * 40, "nan", ""]
    ),
    st.text(string.ascii_letters + string.digits + "%$.*>-_:;,= ", max_size=30),
)
header_names = st.sampled_from(
    [
        "Content-Type",
        "Content-Type",
        "Loopai-Reply-To",
        "Loopai-Reply-Type",
        "Loopai-Routed-From",
        "Loopai-Recorded-Since",
        "Loopai-Version",
        "Loopai-Timeout-Ms",
        "Loopai-Force-Validation",
        "Loopai-Routing-Key",
        "traceparent",
        "Nats-Expected-Stream",
        "Status",
        "x",
    ]
)
headers = st.dictionaries(header_names, header_values, max_size=4)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=12),
        st.binary(max_size=12),
        st.sampled_from(["", "x" * 5000, ids.new(), "00000000-0000-7000-8000-000000000000"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=6), inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["id", "input", "items", "deadline_ms", "version", "timeout_ms"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)


def sample(name: str) -> bytes:
    """A right message with every field set."""
    known, message = samples.SAMPLES[name]
    return known.encode(message)


def _good() -> list[bytes]:
    """Messages that are right, to be mutated."""
    item = {"id": ids.new(), "input": b'"x"', "deadline_ms": FAR_MS}
    return [
        msgspec.msgpack.encode({"items": [item], "task_id": None, "validated": True}),
        b'{"input": "x", "version": 1, "timeout_ms": 500, "routing_key": "k", "trace_id": "t"}',
        msgspec.msgpack.encode({"input": "x", "version": 1}),
        sample("execute_batch"),
        sample("generate_request"),
    ]


@st.composite
def mutated(draw: st.DrawFn, goods: tuple[bytes, ...] = ()) -> bytes:
    """A right message with some of it gone, doubled or changed."""
    payload = bytearray(draw(st.sampled_from(goods or tuple(_good()))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(payload) - 1)))
        match draw(st.sampled_from(["cut", "flip", "insert", "double"])):
            case "cut":
                del payload[place:]
            case "flip" if payload:
                payload[place] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                payload[place:place] = draw(st.binary(min_size=1, max_size=8))
            case _:
                payload += payload[place : place + 64]
    return bytes(payload)


payloads = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 2).map(lambda number: _good()[number]),
    mutated(),
    values.map(msgspec.msgpack.encode),
    values.map(msgspec.json.encode),
    st.sampled_from([b"[" * 50_000, b"\x91" * 50_000, b'{"input": ' + b"1" * 5_000 + b"}"]),
)


def messages(*prefixes: str) -> st.SearchStrategy[list[Message]]:
    """A handful, on subjects that begin with one of *prefixes* and end in a tenant and a task."""
    subject = st.builds(
        lambda prefix, owner: f"{prefix}.{owner[0]}.{owner[1]}",
        st.sampled_from(prefixes),
        st.one_of(st.just(("default", "upper")), st.tuples(tokens, tokens)),
    )
    return st.lists(st.tuples(subject, payloads, headers), min_size=1, max_size=8)


@pytest.fixture
async def hardened(system: System) -> System:
    await system.start_pool(gateway)
    await system.create()
    return system


async def fuzz(
    system: System,
    strategy: st.SearchStrategy[Any],
    check: Callable[[System, Any], Awaitable[None]],
    examples: int = EXAMPLES,
) -> None:
    """*check* with what *strategy* draws; after each the system works as before."""
    loop = asyncio.get_running_loop()

    async def one(drawn: Any) -> None:
        async with asyncio.timeout(60):
            await check(system, drawn)
            await works(system)

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        # To shrink an example takes as many runs of it as there are examples.
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(strategy)
    def all_of_them(drawn: Any) -> None:
        asyncio.run_coroutine_threadsafe(one(drawn), loop).result()

    await asyncio.to_thread(all_of_them)


async def works(system: System) -> None:
    """A good execution over HTTP and a good call are answered, and every worker lives."""
    answer = await system.execute("good")
    assert answer.json().get("output") == "GOOD", answer.text
    called = await system.bus.client.request(
        "loopai.v1.call.default.upper", b'{"input": "good"}', timeout=15
    )
    assert msgspec.json.decode(called.data)["output"] == "GOOD"
    assert system.running == set(WORKERS)


async def stored(system: System, sent: list[Message]) -> list[tuple[int, Message]]:
    """Publish all of *sent*; those that a stream has taken, with their sequence there."""
    found = []
    for subject, payload, given in sent:
        try:
            word = await system.bus.acks.publish(subject, payload, given, timeout_s=5)
        except (nats.errors.Error, ValueError):  # not by this client
            continue
        if word.error is None and word is not acks.NO_STREAM:
            found.append((word.seq, (subject, payload, given)))
    return found


async def is_empty(system: System, stream: str) -> bool:
    return (await system.bus.jetstream.stream_info(stream)).state.messages == 0


async def dead(system: System, stream: str) -> dict[int, Any]:
    """The dead letters of *stream*, by the sequence of the original."""
    letters = [
        codec.DEAD.decode(each.payload)
        async for each in replay.read(system.bus, "DEAD", subjects.DEAD_ALL)
    ]
    return {each.sequence: each for each in letters if each.stream == stream}


async def all_records(system: System) -> set[str]:
    found = set()
    async for each in replay.read(system.bus, "RECORDS", subjects.RECORD_ALL):
        try:
            found |= {record.id for record in codec.RECORDS.decode(each.payload).records}
        except codec.Undecodable:
            continue
    return found


async def test_executions(hardened: System) -> None:
    """Whatever EXECUTE has taken is in DEAD, or each of its items in RECORDS."""

    async def check(system: System, sent: list[Message]) -> None:
        taken = await stored(system, sent)
        counts.append(len(taken))
        await until(lambda: is_empty(system, "EXECUTE"), 50)
        letters, records = await dead(system, "EXECUTE"), await all_records(system)
        for sequence, (_, payload, given) in taken:
            if sequence in letters:
                continue
            read.append(1)
            # It was read: so it can be read, and its ids are recorded unless made of its time.
            if codec.is_json(given):
                continue
            batch = codec.EXECUTE.decode(payload)
            assert {item.id for item in batch.items} <= records

    counts: list[int] = []
    read: list[int] = []
    await fuzz(
        hardened,
        messages("loopai.v1.execute.interactive", "loopai.v1.execute.bulk"),
        check,
    )
    # Chance may have drawn none that can be read.
    await check(hardened, [("loopai.v1.execute.bulk.default.upper", _good()[0], {})])
    # Most of what is drawn gets in, and is read.
    assert sum(counts) > EXAMPLES
    assert await dead(hardened, "EXECUTE")
    assert sum(read) > 0


async def test_generations_and_advisories(hardened: System) -> None:
    """What generators and recorders cannot read goes to DEAD at once."""

    async def check(system: System, sent: list[Message]) -> None:
        generate = [each for each in sent if each[0].startswith("loopai.v1.generate.")]
        taken = await stored(system, generate)
        told = await stored(system, [each for each in sent if each not in generate])
        for stream in ("GENERATE", "ADVISORIES"):
            await until(lambda stream=stream: is_empty(system, stream), 50)
        letters = await dead(system, "GENERATE")
        for sequence, (_, payload, _) in taken:
            if sequence not in letters:
                # It was read, and asks for an operation that there is not: nobody waits for it.
                assert codec.GENERATE.decode(payload)
        assert {sequence for sequence, _ in told} <= (await dead(system, "ADVISORIES")).keys()

    advisories = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.GENERATE"
    await fuzz(hardened, messages("loopai.v1.generate", advisories), check)


async def test_calls(hardened: System) -> None:
    """Each is answered once, and never with an error of ours."""

    async def check(system: System, sent: list[Message]) -> None:
        for subject, payload, given in sent:
            try:
                answer = await system.bus.client.request(
                    subject, payload, timeout=15, headers=given
                )
            except (nats.errors.BadSubjectError, nats.errors.NoRespondersError, ValueError):
                continue
            document = msgspec.json.decode(answer.data)
            assert document.get("status") not in {500, 502}, document
            assert ("Nats-Service-Error-Code" in (answer.headers or {})) == ("code" in document)

    await fuzz(hardened, messages("loopai.v1.call", "loopai.v1.call.default"), check)


async def test_requests_without_a_stream(hardened: System) -> None:
    """Admissions, requests for programs, results and discovery: rubbish passes by."""

    async def check(system: System, sent: list[tuple[str, bytes]]) -> None:
        for subject, payload in sent:
            await system.bus.client.publish(subject, payload, reply=system.bus.client.new_inbox())
        await system.bus.client.flush()

    asked = st.sampled_from(
        [
            "loopai.v1.admit.python",
            f"loopai.v1.program.{'0' * 64}",
            "loopai.v1.program.x",
            system_reply(hardened),
            "$SRV.PING",
            "$SRV.INFO.loopai",
        ]
    )
    request = mutated((sample("admit_request"),))
    records = mutated((sample("record_batch"),))
    sent = st.tuples(asked, st.one_of(payloads, request, records))
    await fuzz(hardened, st.lists(sent, min_size=1, max_size=8), check)
    code = {"code": "def run(input):\n    return 'new'\n"}
    answer = await hardened.http.post("/api/v1/tasks/upper/artifacts", json=code)
    assert answer.status_code == 201, answer.text


def system_reply(system: System) -> str:
    """Where the ingress of *system* hears of results."""
    found: str = system.services.dispatcher._subject
    return found


async def test_keys_of_buckets_and_logs(hardened: System) -> None:
    """Rubbish in KV, RECORDS and EVENTS is nobody's truth, and hides nothing that is right."""
    documents = mutated(
        tuple(
            sample(name)
            for name in (
                "task_specification",
                "program_artifact",
                "rollout",
                "operation",
                "cancellation",
                "worker_presence",
                "site_state",
            )
        )
    )
    prefixes = [f"$KV.{bucket.name}" for bucket in topology.BUCKETS]
    subject = st.one_of(
        st.builds(
            lambda prefix, first, second: f"{prefix}.{first}.{second}",
            st.sampled_from(prefixes),
            tokens,
            tokens,
        ),
        st.builds(lambda prefix, key: f"{prefix}.{key}", st.sampled_from(prefixes), tokens),
        st.sampled_from(["loopai.v1.record.default.upper", "loopai.v1.event.execution.a.b"]),
    )
    # Not the key of the task that answers: who may write that changes it.
    subject = subject.filter(lambda text: "default.upper" not in text or ".record." in text)
    sent = st.lists(
        st.tuples(subject, st.one_of(documents, payloads), headers), min_size=1, max_size=8
    )

    async def check(system: System, drawn: list[Message]) -> None:
        await stored(system, drawn)
        assert (await system.http.get("/api/v1/tasks")).status_code == 200
        assert (await system.http.get("/api/v1/queues")).status_code == 200
        assert (await system.http.get("/health")).status_code == 200
        listed = await system.http.get("/api/v1/sync")
        assert listed.status_code == 200

    await fuzz(hardened, sent, check)
