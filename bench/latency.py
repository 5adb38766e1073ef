"""A lone caller, HTTP to HTTP: every answer durable and recorded before it is sent. By stage.

Alone, and while others keep the stack at half of what it did at 64 connections just before. Both
modes of the broker are measured in turn, round by round.

Stages lie between moments that are seen from outside, nothing in the product measures for this. A
plain subscription sees messages pass the broker, in the process of the caller: its clock is the
same, and a message reaches it 0.1 ms late at most while the machine has time. The record tells when
a worker began and when it had the outcome.

- ingress: from the request to its message at the broker
- queue: until a worker begins: the broker stores the message, and syncs it where it is told to
- cell: until the outcome is there; a batch of the same program that runs already comes before it
- record: until the record passes the broker
- confirm: until the answer does: the broker stores the record, syncs it, and tells the worker so
- reply: until the caller has it

Stages are means over the middle half of all calls by their length, so that they add up; p50 and p99
are of calls that nobody watched.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Literal, Self

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg

from bench import caller, product, report, wrk
from loopai.embedded.broker import Sync
from streams import codec, ids, subjects
from streams.messages import ExecutionRecord

ROUNDS = 5
CALLS_S = 1.0
"""Of each kind, in each round."""
CONNECTIONS = 64
CAPACITY_S = 1
LOAD = 0.5
LEAD_S = 0.5
"""What the others have before the caller begins …"""
LOAD_S = 3
"""… and how long they stay."""
P50_S_MAX: Final[Mapping[Sync, float]] = {"always": 5e-3, "default": 2.5e-3}
MODES: tuple[Sync, Sync] = ("always", "default")
STAGES: Final = ("ingress", "queue", "cell", "record", "confirm", "reply")

Load = Literal["alone", "half load"]
LOADS: Final[tuple[Load, Load]] = ("alone", "half load")

if LEAD_S + 2 * CALLS_S >= LOAD_S:
    raise ValueError("the others must stay until the caller has ended")


class Seen(msgspec.Struct, frozen=True):
    """A message that passed the broker."""

    at: float
    subject: str
    payload: bytes


class Found(msgspec.Struct, kw_only=True):
    """What was measured of one mode under one load."""

    calls: list[caller.Call] = []
    """That nobody watched."""
    watched: list[caller.Call] = []
    stages: list[tuple[float, ...]] = []
    """Of those watched, in the order of STAGES."""
    rates: list[float] = []
    """A second, of the others; one a round."""


Results = Mapping[tuple[Sync, Load], Found]


def measure() -> report.Report:
    """Measure a lone caller; takes about a minute and a half."""
    wrk.find()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return tabulate(runner.run(_measure()))


async def _measure() -> Results:
    """Both modes in turn, A B A B, so that a machine that slows down does so for both."""
    found: dict[tuple[Sync, Load], Found] = {
        (mode, load): Found() for load in LOADS for mode in MODES
    }
    async with contextlib.AsyncExitStack() as stack:
        stacks = {mode: await stack.enter_async_context(product.opened(mode)) for mode in MODES}
        taps = {mode: await stack.enter_async_context(Tap(stacks[mode].nats_url)) for mode in MODES}
        for _ in range(ROUNDS):
            for mode in MODES:
                await _calls(stacks[mode], taps[mode], found[mode, "alone"])
            for mode in MODES:
                await _calls_of_many(stacks[mode], taps[mode], found[mode, "half load"])
    return found


async def _calls_of_many(stack: product.Product, tap: "Tap", found: Found) -> None:
    url = f"{stack.url}{product.EXECUTE}"
    capacity = await wrk.run(url, CONNECTIONS, CAPACITY_S)
    others = asyncio.create_task(
        wrk.run(url, CONNECTIONS, LOAD_S, rate=capacity.rate * LOAD, seed=len(found.rates))
    )
    await asyncio.sleep(LEAD_S)
    await _calls(stack, tap, found)
    found.rates.append((await others).rate)


async def _calls(stack: product.Product, tap: "Tap", found: Found) -> None:
    found.calls += await _made(stack, CALLS_S)
    await watch(stack, tap, found, CALLS_S)


async def watch(stack: product.Product, tap: "Tap", found: Found, seconds: float) -> None:
    """Call for so long, and add to *found* which stages the calls had."""
    async with tap.listening():
        watched = await _made(stack, seconds)
    found.watched += watched
    found.stages += stages(watched, tap.seen)


async def _made(stack: product.Product, seconds: float) -> list[caller.Call]:
    made = await asyncio.to_thread(caller.calls, stack.url, seconds)
    if refused := sum(each.status != 200 for each in made):
        raise RuntimeError(f"{refused} of {len(made)} calls were refused")
    return made


class Tap:
    """Messages of executions as they pass the broker at *url*, while it is `listening`."""

    def __init__(self, url: str) -> None:
        self.seen: list[Seen] = []
        self._url = url

    async def __aenter__(self) -> Self:
        self._client = await nats.connect(self._url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        self.seen.clear()
        wanted = (subjects.execute_lane("interactive"), subjects.RECORD_ALL, subjects.REPLY_ALL)
        subscribed = [await self._client.subscribe(each, cb=self._saw) for each in wanted]
        await self._client.flush()
        try:
            yield
            await self._client.flush()
        finally:
            for each in subscribed:
                await each.unsubscribe()

    async def _saw(self, message: Msg) -> None:
        self.seen.append(Seen(time.time(), message.subject, message.data))


def stages(watched: Sequence[caller.Call], seen: Sequence[Seen]) -> list[tuple[float, ...]]:
    """Seconds of each of STAGES, for each call of which every message was seen."""
    executes: dict[str, float] = {}
    records: dict[str, tuple[float, ExecutionRecord]] = {}
    replies: dict[str, float] = {}
    for each in seen:
        match each.subject.split(".")[2]:
            case "execute":
                for item in codec.EXECUTE.decode(each.payload).items:
                    executes.setdefault(item.id, each.at)
            case "record":
                for record in codec.RECORDS.decode(each.payload).records:
                    records.setdefault(record.id, (each.at, record))
            case _:
                for record in codec.RECORDS.decode(each.payload).records:
                    replies.setdefault(record.id, each.at)
    whole = executes.keys() & records.keys() & replies.keys()
    return [
        between(_moments(call, executes[call.execution_id], *records[call.execution_id], replies))
        for call in watched
        if call.execution_id in whole
    ]


def _moments(
    call: caller.Call,
    executed: float,
    recorded: float,
    record: ExecutionRecord,
    replies: Mapping[str, float],
) -> list[float]:
    # `queue` counts from the id's time to when a worker began: their sum is that moment.
    began = (ids.minted_ms(record.id) + record.latency_ms.queue) / 1e3
    ended = record.executed_at.timestamp()
    return [call.sent, executed, began, ended, recorded, replies[record.id], call.received]


def between(moments: Sequence[float]) -> tuple[float, ...]:
    """What lies between *moments*, none less than 0.

    One that seems to come after the next was seen late: it was no later than that.
    """
    known = list(itertools.accumulate(reversed(moments), min))[::-1]
    return tuple(later - earlier for earlier, later in itertools.pairwise(known))


def middle(of: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The means of the middle half by length; they add up to the mean length of these."""
    ordered = sorted(of, key=sum)
    quarter = len(ordered) // 4
    kept = ordered[quarter : len(ordered) - quarter]
    return tuple(statistics.fmean(each) for each in zip(*kept, strict=True))


def tabulate(results: Results) -> report.Report:
    """The table, the picture, and whether it is what was asked for."""
    rows = [_row(mode, load, found) for (mode, load), found in results.items()]
    failures = [
        f"lone caller, sync {mode}: p50 {report.Figure(p50, 's')}, "
        f"target ≤ {report.Figure(P50_S_MAX[mode], 's')}"
        for (mode, load), found in results.items()
        if load == "alone" and (p50 := _quantiles(found.calls)[0]) > P50_S_MAX[mode]
    ]
    return report.Report(
        title="lone caller",
        columns=(
            "broker's sync_interval",
            "load",
            "p50",
            "p99",
            "per second",
            *STAGES,
            "target",
            "holds",
        ),
        rows=rows,
        notes=_notes(results),
        panels=[_panel(results)],
        failures=failures,
    )


def _row(mode: Sync, load: Load, found: Found) -> report.Row:
    p50, p99 = _quantiles(found.calls)
    row: dict[str, report.Figure | str] = {
        "broker's sync_interval": mode,
        "load": load,
        "p50": report.Figure(p50, "s"),
        "p99": report.Figure(p99, "s"),
        "per second": report.Figure(1 / p50, "a second"),
    }
    for name, value in zip(STAGES, middle(found.stages), strict=False):
        row[name] = report.Figure(value, "s")
    if load == "alone":
        row["target"] = f"p50 ≤ {report.Figure(P50_S_MAX[mode], 's')}"
        row["holds"] = "yes" if p50 <= P50_S_MAX[mode] else "NO"
    return row


def _quantiles(made: Sequence[caller.Call]) -> tuple[float, float]:
    """p50 and p99."""
    seconds = sorted(each.seconds for each in made)
    return statistics.median(seconds), seconds[int(len(seconds) * 0.99)]


def _notes(results: Results) -> list[str]:
    rates = ", ".join(
        f"{statistics.median(found.rates):,.0f} a second with sync {mode}"
        for (mode, load), found in results.items()
        if load == "half load" and found.rates
    )
    more = statistics.median(
        _quantiles(found.watched)[0] - _quantiles(found.calls)[0] for found in results.values()
    )
    return [
        f"Half load was {rates}: {CONNECTIONS} connections, at random moments, from this machine.",
        f"Calls that were watched took {more * 1e6:+,.0f} µs longer.",
    ]


def _panel(results: Results) -> report.Panel:
    found = [middle(each.stages) for each in results.values()]
    return report.Panel(
        title="where the time of a call goes, in ms (less is better)",
        groups=[f"sync {mode}, {load}" for mode, load in results],
        kind="stacked",
        series=[
            report.Series(
                name=name,
                role="part",
                values=[each[number] * 1e3 if each else None for each in found],
            )
            for number, name in enumerate(STAGES)
        ],
    )
