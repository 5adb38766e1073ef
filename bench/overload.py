"""Twice as many requests as the stack can answer, for a minute: what it does with them.

Its peak is the most that 256 connections get out of it, by wrk, each with its next request after
each answer. Then requests come at a rate of their own, at first once the peak and then twice,
whether earlier ones are answered or not; each has its moment, and its latency counts from there.
Last, the 256 connections again. All clients run on the machine that the stack runs on, and take
what the table says from it.

Who is not answered must be refused with 503 and a `Retry-After`. A connection that was refused is
not read for as long, so that not all requests that are due find one to be sent on. Afterwards the
records are counted: there must be one for each answer, and none beside but of callers who were told
no result.
"""

import asyncio
import contextlib
import resource
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

from bench import offered, product, report, wrk
from streams import topology

CONNECTIONS: Final = 256
PEAKS: Final = 3
"""Measurements of the peak, of which the median counts."""
TIMES: Final = 2.0
"""What is offered, of the peak."""
OPEN_CONNECTIONS: Final = 8_000
"""Of the open loop: 4,096 callers may wait for a result, and there must be some to refuse."""
FILES_SPARE: Final = 500

SHARE_MIN: Final = 0.9
"""Of the peak, that is answered all the same."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    seconds: int = 60
    """Of the overload."""
    peak_seconds: int = 5
    """Of each other measurement."""
    connections: int = OPEN_CONNECTIONS


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One load, by the second."""

    name: str
    offered: float
    answered: float
    refused: float
    p50_s: float
    p99_s: float
    client_cpu: float
    """Cores that the client kept busy."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    steps: Sequence[Step]
    """The first is the peak, the last but one the overload."""
    load: offered.Load
    """Of the overload."""
    seconds: int
    recorded: int
    """Executions, since the overload began."""
    waiting: int
    """Messages in EXECUTE when all was over."""
    dead: int


def measure(options: Options | None = None) -> report.Report:
    """Measure an overload; takes about two minutes."""
    wrk.find()
    chosen = options or Options()
    _require_files(chosen.connections + FILES_SPARE)
    return tabulate(asyncio.run(_measure(chosen)))


def _require_files(count: int) -> None:
    """Let this process and those that it starts open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < count:
        raise report.Unavailable(f"a process may open {hard:,} files here; it takes {count:,}")
    if 0 <= soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def _measure(options: Options) -> Found:
    async with product.opened("default") as stack:
        await _closed(stack, "", options)  # to warm up
        peaks = [await _closed(stack, f"{CONNECTIONS} connections", options) for _ in range(PEAKS)]
        peak = sorted(peaks, key=lambda each: each.answered)[PEAKS // 2]
        seconds, count = options.peak_seconds, options.connections
        once = await _offer(stack, peak.answered, seconds, count)
        before = await product.recorded(stack.bus)
        twice = await _offer(stack, peak.answered * TIMES, options.seconds, count)
        recorded = await product.recorded(stack.bus) - before
        waiting = await product.waiting(stack)
        again = await _closed(stack, f"{CONNECTIONS} again", options)
        dead = (await stack.bus.jetstream.stream_info(topology.DEAD.name)).state.messages
        return Found(
            steps=[
                peak,
                _step("the peak, offered", once, seconds),
                _step(f"{TIMES:g} times, offered", twice, options.seconds),
                again,
            ],
            load=twice,
            seconds=options.seconds,
            recorded=recorded,
            waiting=waiting,
            dead=dead,
        )


async def _closed(stack: product.Product, name: str, options: Options) -> Step:
    seconds = options.peak_seconds
    before = _children_cpu_s()
    load = await wrk.run(f"{stack.url}{product.EXECUTE}", CONNECTIONS, seconds)
    client_cpu = (_children_cpu_s() - before) / seconds
    await _rest(stack)
    if load.broken:
        raise RuntimeError(f"{load.broken} requests of wrk failed")
    refused = load.refused / seconds
    return Step(
        name=name,
        offered=load.rate,
        answered=load.rate - refused,
        refused=refused,
        p50_s=load.p50_us / 1e6,
        p99_s=load.p99_us / 1e6,
        client_cpu=client_cpu,
    )


def _children_cpu_s() -> float:
    """Of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _offer(
    stack: product.Product, rate: float, seconds: int, connections: int
) -> offered.Load:
    load = await offered.run(stack.url, rate, seconds, connections)
    await _rest(stack)
    return load


async def _rest(stack: product.Product) -> None:
    # What still waits then is told as what it is.
    with contextlib.suppress(TimeoutError):
        await product.settled(stack)


def _step(name: str, load: offered.Load, seconds: int) -> Step:
    return Step(
        name=name,
        offered=load.due / seconds,
        answered=sum(load.answered_by_slice) / seconds,
        refused=sum(load.refused_by_slice) / seconds,
        p50_s=load.p50_s,
        p99_s=load.p99_s,
        client_cpu=load.cpu_s / seconds,
    )


def tabulate(found: Found) -> report.Report:
    """The table, the picture, and whether everything was answered or refused as it should be."""
    return report.Report(
        title="overload",
        columns=(
            "load",
            "offered, a second",
            "answered, a second",
            "times peak",
            "refused, a second",
            "p50",
            "p99",
            "client, cores",
            "target",
            "holds",
        ),
        rows=[_row(found, each) for each in found.steps],
        notes=_notes(found),
        panels=[_loads_panel(found), _course_panel(found)],
        failures=[*_missed(found), *_unlawful(found)],
    )


def _row(found: Found, step: Step) -> report.Row:
    share = _share(found, step)
    row: dict[str, report.Figure | str] = {
        "load": step.name,
        "offered, a second": report.Figure(step.offered, "a second"),
        "answered, a second": report.Figure(step.answered, "a second"),
        "times peak": report.Figure(share, "ratio"),
        "refused, a second": report.Figure(step.refused, "a second"),
        "p50": report.Figure(step.p50_s, "s"),
        "p99": report.Figure(step.p99_s, "s"),
        "client, cores": report.Figure(step.client_cpu, "ratio"),
    }
    if step is _overload(found):
        row["target"] = f"≥ {SHARE_MIN:g} times peak"
        row["holds"] = "yes" if share >= SHARE_MIN else "NO"
    return row


def _overload(found: Found) -> Step:
    return found.steps[-2]


def _share(found: Found, step: Step) -> float:
    """Of the peak before and after: the machine gets slower and faster meanwhile."""
    return step.answered / statistics.mean((found.steps[0].answered, found.steps[-1].answered))


def _notes(found: Found) -> list[str]:
    load = found.load
    ends = (
        f"In the overload {load.due:,} requests were due in {found.seconds} s and {load.sent:,} "
        f"sent: {load.answered:,} answers, {load.refused:,} refusals with Retry-After, "
        f"{load.bare:,} without, {load.other:,} with another status, {load.broken:,} connections "
        f"broken, {load.silent:,} silent. {load.unsure:,} were told that theirs may still run."
    )
    kept = (
        f"{found.recorded:,} executions of it are in RECORDS, {found.waiting:,} messages in "
        f"EXECUTE and {found.dead:,} in DEAD."
    )
    since = "p50 and p99 are of answers, in the open loop from the moment that a request was due."
    return [ends, kept, since]


def _missed(found: Found) -> list[str]:
    """What should have become of the load."""
    failures, load = [], found.load
    if (share := _share(found, _overload(found))) < SHARE_MIN:
        failures.append(f"overload: {share:.2f} times the peak, target ≥ {SHARE_MIN:g}")
    if unfit := load.bare + load.other + load.broken + load.silent:
        failures.append(
            f"overload: {unfit:,} requests were neither answered nor refused with Retry-After"
        )
    return failures


def _unlawful(found: Found) -> list[str]:
    """Where the conservation law does not hold."""
    failures, load = [], found.load
    if (lost := load.answered - found.recorded) > 0:
        failures.append(f"overload: {lost:,} answers have no record")
    untold = load.unsure + load.broken + load.silent
    if (more := found.recorded - load.answered - untold) > 0:
        failures.append(f"overload: {more:,} executions were recorded that callers were refused")
    if found.waiting or found.dead:
        failures.append(
            f"overload: {found.waiting:,} messages were left in EXECUTE, {found.dead:,} in DEAD"
        )
    return failures


def _loads_panel(found: Found) -> report.Panel:
    return report.Panel(
        title="requests a second",
        groups=[each.name for each in found.steps],
        series=[
            report.Series(
                name="answered", role="ours", values=[each.answered for each in found.steps]
            ),
            report.Series(
                name="refused", role="other", values=[each.refused for each in found.steps]
            ),
        ],
    )


def _course_panel(found: Found) -> report.Panel:
    slice_s = found.seconds / offered.SLICES

    def rates(counts: Sequence[int]) -> list[float | None]:
        return [count / slice_s for count in counts]

    return report.Panel(
        title="the same in the course of the overload",
        axis="seconds since it began",
        groups=[f"{(number + 1) * slice_s:g}" for number in range(offered.SLICES)],
        kind="lines",
        series=[
            report.Series(name="answered", role="ours", values=rates(found.load.answered_by_slice)),
            report.Series(name="refused", role="other", values=rates(found.load.refused_by_slice)),
        ],
    )
