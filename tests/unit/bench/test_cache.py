"""How reads of the cache become figures, and which of them may not be missed."""

from bench import cache


def workloads(*, hits: float = 995, cached_s: float = 0.001) -> cache.Workloads:
    """1,000 reads a round: the uncached ones take a second, and twice that in a slow round."""
    return {
        name: [
            cache.Workload(reads=1_000, hits=found, seconds=seconds * slow) for slow in (1, 2, 1)
        ]
        for name, found, seconds in ((cache.CACHED, hits, cached_s), (cache.UNCACHED, 0, 1.0))
    }


def rounds(memory_s: float = 1e-6, redis_s: float = 1e-4) -> cache.Rounds:
    return {"memory": [[memory_s] * 100] * 3, "redis": [[redis_s] * 100] * 3}


def test_what_holds_is_said_and_no_failure() -> None:
    """A round in which the machine was slow counts for both that are compared."""
    found = cache.tabulate(rounds(), workloads())
    assert [row.get("holds") for row in found.rows] == ["yes", "yes", "yes", None]
    assert [str(row.get("times", "")) for row in found.rows] == ["", "", "1,000", "1"]
    assert found.failures == []


def test_each_target_that_is_missed_is_a_failure() -> None:
    """By its name; the hit rate and the ratio share one."""
    assert cache.tabulate(rounds(memory_s=2e-5), workloads()).failures == [
        "cache: memory: target p50 < 20 µs"
    ]
    assert cache.tabulate(rounds(redis_s=2e-3), workloads()).failures == [
        "cache: redis: target p99 < 2 ms"
    ]
    for bad in (workloads(hits=990), workloads(cached_s=0.11)):
        assert cache.tabulate(rounds(), bad).failures == [
            "cache: cached: target hits > 99 %, ≥ 10 times"
        ]
