"""Where the CPU time of an execution over HTTP goes: by process, in its own code or in the kernel.

User and system time of each kind of process by /proc, for each execution. With more callers
a message holds more of them, and what is paid for each message is shared. `executor` is the process
that hosts the cells, `cells` what runs in them. All are medians over the rounds, so parts add up to
the whole but for noise.
"""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench import product, report, scale, usage, wrk

CONNECTIONS: Final = (1, 16, 64, 256)
ROUNDS = 5
SECONDS = 2

Samples = Mapping[int, Sequence[scale.Sample]]
"""One a round, by number of connections."""


def measure() -> report.Report:
    """Measure one stack; takes about three quarters of a minute."""
    wrk.find()
    return tabulate(asyncio.run(_measure()))


async def _measure() -> Samples:
    samples: dict[int, list[scale.Sample]] = {count: [] for count in CONNECTIONS}
    async with product.opened("default") as stack:
        for count in CONNECTIONS:
            await wrk.run(f"{stack.url}{product.EXECUTE}", count, 1)
        for number in range(ROUNDS):
            first = number % len(CONNECTIONS)
            for count in (*CONNECTIONS[first:], *CONNECTIONS[:first]):
                case = scale.Case(stack=stack, connections=count)
                samples[count].append(await scale.sample(case, seconds=SECONDS))
    return samples


def tabulate(samples: Samples) -> report.Report:
    """The table and the picture."""
    return report.Report(
        title="where CPU time goes",
        columns=(
            "connections",
            "a second",
            "items a message",
            "CPU",
            *(f"… {kind}" for kind in usage.KINDS),
            "in the kernel",
        ),
        rows=[_row(count, of) for count, of in samples.items()],
        notes=[f"{ROUNDS} rounds of {SECONDS} s each, broker with its default sync."],
        panels=[
            _panel("one caller", {count: of for count, of in samples.items() if count == 1}),
            _panel("many callers", {count: of for count, of in samples.items() if count > 1}),
        ],
        failures=[
            f"{count} connections: {failed:,} requests were refused or not answered"
            for count, of in samples.items()
            if (failed := sum(each.failed for each in of))
        ],
    )


def _row(count: int, of: Sequence[scale.Sample]) -> report.Row:
    row: dict[str, report.Figure | str] = {
        "connections": f"{count}",
        "a second": report.Figure(_median(of, lambda each: each.rate), "a second"),
        "items a message": f"{_median(of, lambda each: each.items):.1f}",
        "CPU": report.Figure(_median(of, scale.Sample.cost_s), "s"),
        "in the kernel": f"{_median(of, _kernel_share):.0%}",
    }
    for kind in usage.KINDS:
        row[f"… {kind}"] = report.Figure(_median(of, lambda each: each.cost_s(kind)), "s")  # noqa: B023 (called at once)
    return row


def _median(of: Sequence[scale.Sample], measured: Callable[[scale.Sample], float]) -> float:
    return statistics.median(map(measured, of))


def _kernel_share(sample: scale.Sample) -> float:
    used = sample.cpu.values()
    return sum(each.system_s for each in used) / (sum(each.total_s for each in used) or 1)


def _panel(who: str, samples: Samples) -> report.Panel:
    # Two panels: beside a lone caller's, the bars of many are too short to show anything.
    series = []
    for kind in usage.KINDS:
        for name, field in ((kind, "user_s"), (f"{kind}, kernel", "system_s")):
            values = [_part_us(of, kind, field) for of in samples.values()]
            series.append(report.Series(name=name, role="part in two", values=values))
    return report.Panel(
        title=f"CPU time of an execution, {who}, in µs (less is better)",
        axis="connections",
        groups=[f"{count}" for count in samples],
        kind="stacked",
        series=series,
    )


def _part_us(of: Sequence[scale.Sample], kind: str, field: str) -> float:
    return 1e6 * _median(
        of, lambda each: float(getattr(each.cpu[kind], field)) / max(each.executions, 1)
    )
