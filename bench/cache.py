"""How long the text of a program takes from each layer of the cache, and how often each has it.

All layers are measured in turn, A B A B, so that a machine that gets slower meanwhile does so for
all. A layer is one where those above it have nothing: a memory of one byte, a Redis that is not
asked. Times are what a caller of the whole cache waits; one read at a time.

Hits are of a Zipf workload: of 1,000 tasks the first is asked for twice as often as the second,
three times as often as the third. It begins with an empty memory, whose misses count.
"""

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from bench import contenders, report
from loopai.catalog.cache import cache
from loopai.catalog.stores import filesystem
from loopai.catalog.stores import store as stores
from loopai.settings import Settings

TASKS: Final = 1_000
CODE_BYTES: Final = 4_096
"""Of a program: what the examples engine writes has 3 to 20 KB."""
ROUNDS: Final = 5
FOLDER: Final = "store (a folder)"
S3: Final = "store (S3, rclone)"
READS_A_ROUND: Final = {"memory": 20_000, "redis": 1_000, FOLDER: 1_000, S3: 200}
ZIPF_READS: Final = 200_000
ZIPF_READS_SLOW: Final = 10_000
"""Where most reads leave the memory."""
CACHED: Final = "cached"
UNCACHED: Final = "uncached"
MEMORY_OF_A_TENTH: Final = TASKS // 10 * (CODE_BYTES + 1_024)

# The targets of the cache.
MEMORY_P50_S_MAX: Final = 20e-6
REDIS_P99_S_MAX: Final = 2e-3
HIT_RATE_MIN: Final = 0.99
TIMES_MIN: Final = 10

COLUMNS: Final = ("what", "p50", "p99", "hits in memory", "mean", "times", "target", "holds")


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a Zipf workload came to."""

    reads: int
    hits: float
    """Of memory."""
    seconds: float

    @property
    def hit_rate(self) -> float:
        return self.hits / self.reads

    @property
    def mean_s(self) -> float:
        return self.seconds / self.reads


_NOTE: Final = (
    f"{TASKS:,} texts of {CODE_BYTES:,} bytes, medians of {ROUNDS} rounds. `times` is how many "
    "times as long the same reads take without memory and Redis, from the folder. Folder and S3 "
    "are this machine's, and what they hold is in its memory: elsewhere both take longer."
)

Rounds = Mapping[str, Sequence[Sequence[float]]]
"""Seconds of each read, by layer and round."""
Workloads = Mapping[str, Sequence[Workload]]
"""By what they are read through, a round each."""


def measure() -> report.Report:
    """Measure the layers; takes about half a minute."""
    return tabulate(*uvloop.run(_measure()))


async def _measure() -> tuple[Rounds, Workloads]:
    with tempfile.TemporaryDirectory(prefix="loopai-bench-") as folder:
        path = Path(folder)
        async with (
            contenders.redis(path) as url,
            contenders.s3(path) as s3_url,
            stores.opened(s3_url) as s3,
        ):
            return await _measured(filesystem.FilesystemStore(path / "store"), s3, url)


async def _measured(store: stores.Store, s3: stores.Store, url: str) -> tuple[Rounds, Workloads]:
    alone = Settings(cache_bytes_max=1)
    shared = Settings(redis_url=url, cache_bytes_max=1)
    layers = {
        "memory": (Settings(), store),
        "redis": (shared, store),
        FOLDER: (alone, store),
        S3: (alone, s3),
    }
    names = [await store.put(_code(number)) for number in range(TASKS)]
    for number in range(READS_A_ROUND[S3]):
        await s3.put(_code(number))
    async with cache.opened(shared, store, CollectorRegistry()) as texts:
        for number in range(TASKS):
            await texts.put(_code(number))
    cached = Settings(redis_url=url)
    workloads = {
        CACHED: (cached, ZIPF_READS),
        "cached, memory for a tenth of the texts": (
            msgspec.structs.replace(cached, cache_bytes_max=MEMORY_OF_A_TENTH),
            ZIPF_READS_SLOW,
        ),
        UNCACHED: (alone, ZIPF_READS_SLOW),
    }
    rounds: dict[str, list[list[float]]] = {layer: [] for layer in layers}
    worked: dict[str, list[Workload]] = {name: [] for name in workloads}
    for _ in range(ROUNDS):
        for layer, (known, read) in layers.items():
            reads = READS_A_ROUND[layer]
            rounds[layer].append(await _read(known, read, names[:reads], reads))
        for name, (known, reads) in workloads.items():
            worked[name].append(await _workload(known, store, names, reads))
    return rounds, worked


def _code(number: int) -> str:
    head = f"def run(input):\n    return {number}\n"
    return head + "#" * (CODE_BYTES - len(head))


async def _read(
    known: Settings, store: stores.Store, names: Sequence[str], reads: int
) -> list[float]:
    """Seconds of each of so many reads, round after round of all texts."""
    found = []
    async with cache.opened(known, store, CollectorRegistry()) as texts:
        for name in names:
            await texts.get(name)
        for name in itertools.islice(itertools.cycle(names), reads):
            begun = time.perf_counter()
            await texts.get(name)
            found.append(time.perf_counter() - begun)
    return found


async def _workload(
    known: Settings, store: stores.Store, names: Sequence[str], reads: int
) -> Workload:
    chosen = random.Random(1).choices(names, [1 / rank for rank in range(1, TASKS + 1)], k=reads)  # noqa: S311 (no secret)
    shown = CollectorRegistry()
    async with cache.opened(known, store, shown) as texts:
        begun = time.perf_counter()
        for name in chosen:
            await texts.get(name)
        seconds = time.perf_counter() - begun
        labels = {"layer": "memory", "result": "hit"}
        hits = shown.get_sample_value("loopai_cache_reads_total", labels) or 0.0
    return Workload(reads=reads, hits=hits, seconds=seconds)


def tabulate(rounds: Rounds, workloads: Workloads) -> report.Report:
    """The table of *rounds*, medians over them, and of *workloads*; targets that do not hold."""
    p50 = {layer: _median(found, 0.5) for layer, found in rounds.items()}
    p99 = {layer: _median(found, 0.99) for layer, found in rounds.items()}
    times = {
        name: statistics.median(
            slow.mean_s / fast.mean_s for fast, slow in zip(found, workloads[UNCACHED], strict=True)
        )
        for name, found in workloads.items()
    }
    hit_rate = statistics.median(each.hit_rate for each in workloads[CACHED])
    targets = {
        "memory": ("p50 < 20 µs", p50["memory"] < MEMORY_P50_S_MAX),
        "redis": ("p99 < 2 ms", p99["redis"] < REDIS_P99_S_MAX),
        CACHED: (
            "hits > 99 %, ≥ 10 times",
            hit_rate > HIT_RATE_MIN and times[CACHED] >= TIMES_MIN,
        ),
    }
    rows: list[dict[str, report.Figure | str]] = [
        {
            "what": layer,
            "p50": report.Figure(p50[layer], "s"),
            "p99": report.Figure(p99[layer], "s"),
        }
        for layer in rounds
    ]
    rows += [
        {
            "what": name,
            "hits in memory": f"{statistics.median(each.hit_rate for each in found):.1%}",
            "mean": report.Figure(statistics.median(each.mean_s for each in found), "s"),
            "times": report.Figure(times[name], "times"),
        }
        for name, found in workloads.items()
    ]
    for row in rows:
        if row["what"] in targets:
            wanted, holds = targets[str(row["what"])]
            row |= {"target": wanted, "holds": "yes" if holds else "NO"}
    return report.Report(
        title="cache of program texts",
        columns=COLUMNS,
        rows=rows,
        notes=[_NOTE],
        panels=[
            report.Panel(
                title="one read (µs, less is better)",
                groups=list(rounds),
                series=[
                    report.Series(
                        name=name, values=[found[each] * 1e6 for each in rounds], role=role
                    )
                    for name, found, role in (("p50", p50, "ours"), ("p99", p99, "other"))
                ],
                logarithmic=True,
            )
        ],
        failures=[
            f"cache: {name}: target {wanted}"
            for name, (wanted, holds) in targets.items()
            if not holds
        ],
    )


def _median(rounds: Sequence[Sequence[float]], share: float) -> float:
    """Of the rounds' quantiles."""
    return statistics.median(sorted(found)[int(len(found) * share)] for found in rounds)
