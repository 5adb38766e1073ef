"""Submit and await over HTTP, beside an echo that does nothing and peers that do less.

Loopai runs the program in a cell, stores the request and records the answer before it is sent. The
echo parses the same body and sends it back. The peers call the same function in their worker's own
process, without sandbox and audit; those on Redis keep nothing on disk. All are served by one web
process on the same uvicorn settings and have one worker process.

Each round measures all in turn, beginning with another each time, for as long as the others.
Ratios are taken within a round, and then their median over the rounds, as of all figures. CPU time
is that of all processes of one: web, worker, cells and broker.
"""

import asyncio
import contextlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench import contenders, report, wrk

WARM_UP_S = 1
REST_S = 0.1
REST_SHARE = 0.2
"""Of a core: idle ones that poll take less."""
SETTLE_S_MAX = 5.0
IDLE_S = 2.0
REFERENCE = "echo"
LABELS: Final = {
    "loopai": "Loopai",
    "loopai-fsync": "Loopai, sync always",
    "echo": "bare Starlette echo",
    "faststream": "FastStream, core NATS",
    "taskiq": "taskiq, JetStream",
    "celery": "Celery, Redis",
    "arq": "arq, Redis",
}
ROLES: Final[Mapping[str, report.Role]] = {
    "loopai": "ours",
    "loopai-fsync": "ours",
    "echo": "reference",
}

# What issue 4 asks of 64 connections.
TARGET_CONNECTIONS = 64
ECHO_RATE_MIN = 1.0
PEER_RATE_MIN = 3.0
ECHO_P99_MAX = 1.5

COLUMNS = (
    "connections",
    "what",
    "a second",
    "times echo",
    "p50",
    "p99",
    "p99 times echo",
    "CPU a request",
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    only: tuple[str, ...] = tuple(contenders.STARTS)
    connections: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 5
    seconds: int = 3


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One contender in one round."""

    rate: float
    p50_s: float
    p99_s: float
    cpu_s: float
    """Of one request."""
    failed: int = 0


Measure = Literal["rate", "p50_s", "p99_s", "cpu_s"]
Samples = Mapping[tuple[int, str], Sequence[Sample]]
"""One a round, by number of connections and contender."""


def measure(options: Options) -> report.Report:
    """Measure all contenders; takes about nine minutes with the defaults."""
    contenders.require(options.only)
    samples, idle = asyncio.run(_measure(options))
    return tabulate(samples, notes=[_how(options), idle])


async def _measure(options: Options) -> tuple[Samples, str]:
    samples: dict[tuple[int, str], list[Sample]] = {}
    async with contextlib.AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(contenders.running(name)) for name in options.only
        ]
        idle = await _idle(started)
        for connections in options.connections:
            for each in started:
                await _sample(each, connections, WARM_UP_S)
            for number in range(options.rounds):
                first = number % len(started)
                for each in (*started[first:], *started[:first]):
                    measured = await _sample(each, connections, options.seconds)
                    samples.setdefault((connections, each.name), []).append(measured)
    return samples, idle


async def _sample(contender: contenders.Contender, connections: int, seconds: int) -> Sample:
    before = contender.cpu_s()
    load = await wrk.run(contender.url, connections, seconds)
    used = contender.cpu_s() - before
    await _settled(contender)
    return Sample(
        rate=load.rate,
        p50_s=load.p50_us / 1e6,
        p99_s=load.p99_us / 1e6,
        cpu_s=used / max(load.requests, 1),
        failed=load.refused + load.broken,
    )


async def _settled(contender: contenders.Contender) -> None:
    """Wait until it rests: what wrk left unfinished must not slow down who comes next."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S_MAX):
            used = REST_S
            while used > REST_SHARE * REST_S:
                before = contender.cpu_s()
                await asyncio.sleep(REST_S)
                used = contender.cpu_s() - before


async def _idle(started: Sequence[contenders.Contender]) -> str:
    """What those that are not measured take from the one that is."""
    for each in started:
        await _settled(each)
    before = [each.cpu_s() for each in started]
    await asyncio.sleep(IDLE_S)
    shares = {
        each.name: (each.cpu_s() - at) / IDLE_S for each, at in zip(started, before, strict=True)
    }
    most = max(shares, key=lambda name: shares[name])
    return (
        f"While they wait, all together take {sum(shares.values()):.0%} of a core; "
        f"most of it {LABELS[most]}, {shares[most]:.0%}."
    )


def tabulate(samples: Samples, notes: Sequence[str] = ()) -> report.Report:
    """The table and the plot of what was measured, and whether it is what was asked for."""
    return report.Report(
        title="submit and await over HTTP",
        columns=COLUMNS,
        rows=[_row(samples, *key) for key in samples],
        notes=[*_targets(samples), *notes],
        panels=_panels(samples),
        failures=[
            f"{LABELS[name]}, {connections} connections: "
            f"{failed:,} requests were refused or not answered"
            for (connections, name), rounds in samples.items()
            if (failed := sum(each.failed for each in rounds))
        ],
    )


def _row(samples: Samples, connections: int, name: str) -> report.Row:
    row: dict[str, report.Figure | str] = {
        "connections": f"{connections}",
        "what": LABELS[name],
        "a second": report.Figure(_median(samples, connections, name, "rate"), "a second"),
        "p50": report.Figure(_median(samples, connections, name, "p50_s"), "s"),
        "p99": report.Figure(_median(samples, connections, name, "p99_s"), "s"),
        "CPU a request": report.Figure(_median(samples, connections, name, "cpu_s"), "s"),
    }
    if (connections, REFERENCE) in samples:
        rate = ratio(samples, connections, "rate", name, REFERENCE)
        p99 = ratio(samples, connections, "p99_s", name, REFERENCE)
        row |= {
            "times echo": report.Figure(rate, "ratio"),
            "p99 times echo": report.Figure(p99, "ratio"),
        }
    return row


def _median(samples: Samples, connections: int, name: str, field: Measure) -> float:
    return statistics.median(_field(each, field) for each in samples[connections, name])


def _field(sample: Sample, name: Measure) -> float:
    value: float = getattr(sample, name)
    return value


def ratio(samples: Samples, connections: int, field: Measure, name: str, to: str) -> float:
    """The median of the ratios of each round."""
    pairs = zip(samples[connections, name], samples[connections, to], strict=True)
    return statistics.median(
        _field(one, field) / (_field(other, field) or math.inf) for one, other in pairs
    )


def _targets(samples: Samples) -> list[str]:
    """One sentence for each target whose contenders were measured."""
    at = TARGET_CONNECTIONS
    names = {name for connections, name in samples if connections == at}
    found = []
    if {"loopai", REFERENCE} <= names:
        rate = ratio(samples, at, "rate", "loopai", REFERENCE)
        p99 = ratio(samples, at, "p99_s", "loopai", REFERENCE)
        found += [
            _target(
                f"{rate:.2f} times the echo's rate", f"≥ {ECHO_RATE_MIN}", rate >= ECHO_RATE_MIN
            ),
            _target(f"{p99:.2f} times the echo's p99", f"≤ {ECHO_P99_MAX}", p99 <= ECHO_P99_MAX),
        ]
    peers = names & contenders.PEERS
    if "loopai" in names and peers:
        fastest = max(peers, key=lambda name: _median(samples, at, name, "rate"))
        rate = ratio(samples, at, "rate", "loopai", fastest)
        what = f"{rate:.2f} times {LABELS[fastest]}, the fastest peer"
        found.append(_target(what, f"≥ {PEER_RATE_MIN}", rate >= PEER_RATE_MIN))
    return found


def _target(what: str, wanted: str, holds: bool) -> str:
    verdict = "holds" if holds else "DOES NOT HOLD"
    return f"Loopai at {TARGET_CONNECTIONS} connections: {what}. Target {wanted}: {verdict}."


def _panels(samples: Samples) -> list[report.Panel]:
    counts = list(dict.fromkeys(connections for connections, _ in samples))
    names = list(dict.fromkeys(name for _, name in samples))

    def panel(title: str, field: Measure, scale: float = 1, *, logarithmic: bool) -> report.Panel:
        return report.Panel(
            title=title,
            axis="connections",
            groups=[f"{count}" for count in counts],
            logarithmic=logarithmic,
            series=[
                report.Series(
                    name=LABELS[name],
                    role=ROLES.get(name, "other"),
                    values=[_median(samples, count, name, field) * scale for count in counts],
                )
                for name in names
            ],
        )

    return [
        panel("requests a second (more is better)", "rate", logarithmic=False),
        panel("p99 in ms (less is better)", "p99_s", 1e3, logarithmic=True),
        panel("CPU time a request, in µs (less is better)", "cpu_s", 1e6, logarithmic=False),
    ]


def _how(options: Options) -> str:
    lock = Path(__file__).with_name("requirements.lock").read_text()
    peers = [name for name in options.only if name in contenders.PEERS]
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE))
    versions = ", ".join(f"{name} {pins[name]}" for name in ("starlette", "uvicorn", *peers))
    return (
        f"{options.rounds} rounds of {options.seconds} s each, wrk with one thread on the same "
        f"machine. {versions}. “sync always”: the broker syncs each write to the disk before it "
        "confirms it; the others on NATS have the broker's default, a sync every two minutes."
    )
