"""What a flood does to a quiet caller, and how tenants and tasks share an executor.

The quiet caller calls over HTTP, one call after another and at most a hundred a second: alone, and
while 100,000 executions wait that others published straight to the bus. Both in turn, round by
round; after each flood what still waits is thrown away. What floods is topped up all the time by a
process of its own, which takes its CPU time from the same machine.

Shares: two queues are flooded at once, and of the second three times as many executions wait as of
the first: whoever serves what came first gives it three times as much. Tenants have the same weight
unless the table says otherwise.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec

from bench import caller, flood, product, report

EVERY_S: Final = 0.01
"""Between the calls of the quiet caller: so seldom that it is no load itself."""
LEAD_S: Final = 0.5
"""How long a flood is full before anything is measured under it."""
SECOND_TIMES: Final = 3
"""What waits of the second of two queues, times what waits of the first."""
TIMES_ALONE_MAX: Final = 2.0
"""Of p99, what issue 6 allows to a flood."""

ENVIRONMENT: Final = {
    "LOOPAI_TENANT_WEIGHTS": "heavy=3,light=1",
    # 100,000 messages of one execution each must find room.
    "LOOPAI_EXECUTE_BACKLOG_MAX": "1000000",
    # A call that a flood drowned must not take the whole round.
    "LOOPAI_TIMEOUT_MS": "10000",
}

FLOODS: Final[Mapping[str, flood.Queue]] = {
    "another tenant, 256 a message": flood.Queue("interactive", "flood", product.TASK),
    "another tenant, one a message": flood.Queue("interactive", "flood", product.TASK, items=1),
    "the same task, bulk, 256 a message": flood.Queue("bulk", "default", product.TASK),
}


class Pair(msgspec.Struct, frozen=True):
    """Two queues, and how many times the second's executions the first may get."""

    first: flood.Queue
    second: flood.Queue
    ratio_min: float
    ratio_max: float


def _queue(tenant: str, task: str = product.TASK) -> flood.Queue:
    return flood.Queue("interactive", tenant, task)


PAIRS: Final[Mapping[str, Pair]] = {
    "two tenants": Pair(_queue("one"), _queue("two"), 0.8, 1.25),
    "two tenants, weights 3 and 1": Pair(_queue("heavy"), _queue("light"), 2.4, 3.6),
    "two tasks of a tenant": Pair(_queue("tasks", "one"), _queue("tasks", "two"), 0.8, 1.25),
}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 5
    seconds: float = 3.0
    """Of each measurement."""
    executions: int = 100_000
    """That wait meanwhile."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    p50_s: float
    p99_s: float
    calls: int
    refused: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A quiet caller alone, and right after that under a flood."""

    alone: Latency
    under: Latency
    rate: float
    """Executions a second of the flood."""
    waited: int
    """The fewest executions that waited."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    floods: Mapping[str, Sequence[Round]]
    pairs: Mapping[str, Sequence[tuple[float, float]]]
    """Executions a second of both, one a round."""


def measure(options: Options | None = None) -> report.Report:
    """Measure floods and shares; takes about five minutes."""
    chosen = options or Options()
    return tabulate(asyncio.run(_measure(chosen)), chosen)


async def _measure(options: Options) -> Found:
    floods: dict[str, list[Round]] = {name: [] for name in FLOODS}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in PAIRS}
    async with product.opened("default", environment=ENVIRONMENT) as stack:
        await create_tasks(stack)
        await _calls(stack, options)  # to warm up
        for _ in range(options.rounds):
            for name, queue in FLOODS.items():
                floods[name].append(await in_flood(stack, queue, options))
            for name, pair in PAIRS.items():
                pairs[name].append(await shares(stack, pair, options))
    return Found(floods=floods, pairs=pairs)


async def create_tasks(stack: product.Product) -> None:
    """Those of FLOODS and PAIRS that are not there yet."""
    queues = [
        *FLOODS.values(),
        *(each for pair in PAIRS.values() for each in (pair.first, pair.second)),
    ]
    for tenant, task in sorted({(each.tenant, each.task) for each in queues}):
        if (tenant, task) != ("default", product.TASK):
            await product.create_tasks(stack, [task], tenant=tenant)


async def in_flood(stack: product.Product, queue: flood.Queue, options: Options) -> Round:
    """Measure the quiet caller without and with *queue* full."""
    alone = await _calls(stack, options)
    async with _flooded(stack, _holding(queue, options.executions)) as running:
        began = time.time()
        under = await _calls(stack, options)
        states = running.between(began, time.time())
    return Round(
        alone=alone,
        under=under,
        rate=flood.rates(states)[0],
        waited=min(each.waiting[0] for each in states),
    )


async def shares(stack: product.Product, pair: Pair, options: Options) -> tuple[float, float]:
    """Executions a second of both queues."""
    first = _holding(pair.first, options.executions)
    second = _holding(pair.second, options.executions * SECOND_TIMES)
    async with _flooded(stack, first, second) as running:
        began = time.time()
        await asyncio.sleep(options.seconds)
        rates = flood.rates(running.between(began, time.time()))
    return rates[0], rates[1]


def _holding(queue: flood.Queue, executions: int) -> flood.Queue:
    return msgspec.structs.replace(queue, executions=executions)


@contextlib.asynccontextmanager
async def _flooded(stack: product.Product, *queues: flood.Queue) -> AsyncIterator[flood.Flood]:
    """A full flood; afterwards nothing of it is left, and the stack is at rest."""
    order = flood.Order(nats_url=stack.nats_url, queues=queues)
    async with flood.running(order) as running:
        await running.full()
        await asyncio.sleep(LEAD_S)
        yield running
    await product.purge(stack)
    await product.settled(stack)


async def _calls(stack: product.Product, options: Options) -> Latency:
    made = await asyncio.to_thread(caller.calls, stack.url, options.seconds, every_s=EVERY_S)
    seconds = sorted(each.seconds for each in made)
    return Latency(
        p50_s=statistics.median(seconds),
        p99_s=seconds[int(len(seconds) * 0.99)],
        calls=len(made),
        refused=sum(each.status != 200 for each in made),
    )


def tabulate(found: Found, options: Options) -> report.Report:
    """The table, the picture, and whether it is what was asked for."""
    rows = [_flood_row(name, rounds) for name, rounds in found.floods.items()]
    rows += [_pair_row(name, PAIRS[name], rates) for name, rates in found.pairs.items()]
    return report.Report(
        title="fairness",
        columns=(
            "flood",
            "p50 alone",
            "p50",
            "p99 alone",
            "p99",
            "ratio",
            "flood, a second",
            "target",
            "holds",
        ),
        rows=rows,
        notes=_notes(options),
        panels=[_flood_panel(found), _pair_panel(found)],
        failures=[
            *(
                f"{row['flood']}: ratio {row['ratio']}, target {row['target']}"
                for row in rows
                if row["holds"] == "NO"
            ),
            *_unfit(found, options),
        ],
    )


def _notes(options: Options) -> list[str]:
    how = (
        f"Medians of {options.rounds} rounds of {options.seconds:g} s. The ratio is that of p99 to "
        "p99 alone in a round, or of executions of the first queue to those of the second."
    )
    backlog_max = int(ENVIRONMENT["LOOPAI_EXECUTE_BACKLOG_MAX"])
    room = f"The broker has its default sync; a queue has room for {backlog_max:,} messages."
    few = "A slow call delays the next one: where calls take seconds, p99 is of few."
    return [how, room, few]


def _unfit(found: Found, options: Options) -> list[str]:
    """What makes figures say less than they seem to."""
    failures = []
    for name, rounds in found.floods.items():
        if refused := sum(each.alone.refused + each.under.refused for each in rounds):
            failures.append(f"{name}: {refused:,} quiet calls were refused or had no result")
        if (least := min(each.waited for each in rounds)) < options.executions:
            failures.append(f"{name}: at times only {least:,} executions waited")
    return failures


def _flood_row(name: str, rounds: Sequence[Round]) -> report.Row:
    times = statistics.median(each.under.p99_s / each.alone.p99_s for each in rounds)
    return {
        "flood": name,
        "p50 alone": _middle([each.alone.p50_s for each in rounds], "s"),
        "p50": _middle([each.under.p50_s for each in rounds], "s"),
        "p99 alone": _middle([each.alone.p99_s for each in rounds], "s"),
        "p99": _middle([each.under.p99_s for each in rounds], "s"),
        "ratio": report.Figure(times, "ratio"),
        "flood, a second": _middle([each.rate for each in rounds], "a second"),
        "target": f"< {TIMES_ALONE_MAX:g}",
        "holds": "yes" if times < TIMES_ALONE_MAX else "NO",
    }


def _pair_row(name: str, pair: Pair, rates: Sequence[tuple[float, float]]) -> report.Row:
    # Where the second had nothing at all, that is the ratio's way to say so.
    ratio = statistics.median(first / max(second, 1.0) for first, second in rates)
    first, second = (_middle(list(each), "a second") for each in zip(*rates, strict=True))
    return {
        "flood": name,
        "ratio": report.Figure(ratio, "ratio"),
        "flood, a second": f"{first} and {second}",
        "target": f"{pair.ratio_min:g} to {pair.ratio_max:g}",
        "holds": "yes" if pair.ratio_min <= ratio <= pair.ratio_max else "NO",
    }


def _middle(values: Sequence[float], unit: report.Unit) -> report.Figure:
    return report.Figure(statistics.median(values), unit)


def _flood_panel(found: Found) -> report.Panel:
    rounds = found.floods.values()
    alone = [statistics.median(each.alone.p99_s for each in of) for of in rounds]
    under = [statistics.median(each.under.p99_s for each in of) for of in rounds]
    return report.Panel(
        title="p99 of a quiet caller, in ms (less is better)",
        groups=list(found.floods),
        logarithmic=True,
        series=[
            report.Series(name="alone", role="reference", values=[each * 1e3 for each in alone]),
            report.Series(name="in a flood", role="ours", values=[each * 1e3 for each in under]),
        ],
    )


def _pair_panel(found: Found) -> report.Panel:
    queues = [each for name in found.pairs for each in (PAIRS[name].first, PAIRS[name].second)]
    rates = [of for pairs in found.pairs.values() for of in zip(*pairs, strict=True)]
    return report.Panel(
        title="executions a second of two queues at once, by tenant and task",
        groups=[f"{each.tenant}, {each.task}" for each in queues],
        series=[
            report.Series(
                name="share", role="other", values=[statistics.median(of) for of in rates]
            )
        ],
    )
