"""How floods and shares become a table."""

import pytest

from bench import fairness, flood

OPTIONS = fairness.Options(rounds=3, seconds=1, executions=100)


def latency(p99_s: float, refused: int = 0) -> fairness.Latency:
    return fairness.Latency(p50_s=p99_s / 2, p99_s=p99_s, calls=9, refused=refused)


def rounds(*p99s: tuple[float, float], waited: int = 100, refused: int = 0) -> list[fairness.Round]:
    return [
        fairness.Round(
            alone=latency(alone), under=latency(under, refused), rate=5_000, waited=waited
        )
        for alone, under in p99s
    ]


def found(of: list[fairness.Round], *, equal: float = 1.0, weighted: float = 3.0) -> fairness.Found:
    pairs = {
        name: [(1_000 * (weighted if "3" in name else equal), 1_000.0)] for name in fairness.PAIRS
    }
    return fairness.Found(floods=dict.fromkeys(fairness.FLOODS, of), pairs=pairs)


def test_the_ratio_is_the_median_of_those_of_the_rounds() -> None:
    """A round in which the machine was slow is slow with and without the flood."""
    of = rounds((0.002, 0.003), (0.1, 0.12), (0.002, 0.009))
    shown = fairness.tabulate(found(of), OPTIONS)
    assert [str(row["ratio"]) for row in shown.rows[:3]] == ["1.50"] * 3
    assert [row["holds"] for row in shown.rows] == ["yes"] * 6
    assert str(shown.rows[0]["p99 alone"]) == "2.0 ms"
    assert shown.rows[3]["flood, a second"] == "1,000 and 1,000"
    assert shown.failures == []


@pytest.mark.parametrize(("equal", "weighted"), [(1.3, 3.0), (0.7, 3.0), (1.0, 1.0), (1.0, 4.0)])
def test_shares_outside_their_bounds_are_failures(equal: float, weighted: float) -> None:
    """More than its share is as wrong as less."""
    of = found(rounds((0.002, 0.002)), equal=equal, weighted=weighted)
    shown = fairness.tabulate(of, OPTIONS)
    assert len(shown.failures) == (1 if equal == 1.0 else 2)
    assert all("target" in failure for failure in shown.failures)


def test_a_queue_that_gets_nothing_has_a_ratio_all_the_same() -> None:
    """One that starves is what the bench is there to find."""
    of = fairness.Found(floods={}, pairs={"two tenants": [(9_000.0, 0.0)]})
    (row,) = fairness.tabulate(of, OPTIONS).rows
    assert (str(row["ratio"]), row["holds"]) == ("9,000.00", "NO")


def test_a_slow_caller_and_what_was_no_flood_are_failures() -> None:
    """So are calls that had no result."""
    of = found(rounds((0.002, 0.02), waited=7, refused=2))
    failures = fairness.tabulate(of, OPTIONS).failures
    name = next(iter(fairness.FLOODS))
    assert f"{name}: ratio 10.00, target < 2" in failures
    assert f"{name}: 2 quiet calls were refused or had no result" in failures
    assert f"{name}: at times only 7 executions waited" in failures


def test_every_panel_has_a_value_for_each_group() -> None:
    """What draws them relies on it."""
    for panel in fairness.tabulate(found(rounds((0.002, 0.003))), OPTIONS).panels:
        assert {len(series.values) for series in panel.series} == {len(panel.groups)}


def test_rates_are_those_from_the_first_state_to_the_last() -> None:
    """Of each queue by itself."""
    states = [
        flood.State(at=at, waiting=(9, 9), done=done, full=True)
        for at, done in [(1.0, (0, 100)), (2.0, (5, 100)), (3.0, (20, 140))]
    ]
    assert flood.rates(states) == [10.0, 20.0]
