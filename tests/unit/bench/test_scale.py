"""How rounds become costs, and which of them may not rise."""

from bench import profile, scale, usage


def sample(cost_us: float, *, failed: int = 0) -> scale.Sample:
    """1,000 executions, half of whose time was the ingress's and half the broker's."""
    half = usage.Cpu(user_s=cost_us * 4e-4, system_s=cost_us * 1e-4)
    cpu = dict.fromkeys(usage.KINDS, usage.Cpu()) | {"ingress": half, "broker": half}
    return scale.Sample(rate=1.0, executions=1_000, cpu=cpu, failed=failed)


def test_the_rise_is_the_median_of_those_within_a_round() -> None:
    """A machine that was slow in one round was so for both."""
    samples: scale.Samples = {
        ("backlog", 0): [sample(100), sample(500), sample(100)],
        ("backlog", 1_000_000): [sample(110), sample(550), sample(300)],
    }
    assert round(scale.rise(samples, "backlog"), 6) == 0.1
    assert scale.tabulate(samples).failures == []


def test_a_cost_that_rises_too_much_is_a_failure() -> None:
    """Where there is a target; what more input costs has none."""
    samples: scale.Samples = {
        ("tasks, at random", 1): [sample(100)],
        ("tasks, at random", 1_000): [sample(121)],
        ("input", 100): [sample(100)],
        ("input", 100_000): [sample(900)],
    }
    found = scale.tabulate(samples)
    assert found.failures == ["tasks, at random: cost rises by 21% to 1,000, target < 20%"]
    assert [row.get("holds", "") for row in found.rows] == ["", "NO", "", ""]
    assert [str(row["CPU"]) for row in found.rows] == ["100 µs", "121 µs", "100 µs", "900 µs"]
    assert str(found.rows[0]["… ingress"]) == "50 µs"
    assert [panel.groups for panel in found.panels] == [["1", "1,000"], ["100", "100,000"]]


def test_requests_that_failed_are_failures_of_the_bench() -> None:
    """The cost of an error is no cost of an execution."""
    found = scale.tabulate({("workers", 4): [sample(1, failed=2)]})
    assert found.failures == ["workers, 4: 2 requests were refused or not answered"]


def test_cells_are_as_many_as_memory_and_descriptors_allow() -> None:
    """One at least, whatever is there."""
    memory = scale.SPARE_BYTES + 100 * scale.CELL_BYTES
    assert scale.cells_max(memory, 10_000) == 100
    assert scale.cells_max(memory, scale.SPARE_FILES + 7 * scale.CELL_FILES) == 7
    assert scale.cells_max(0, 1_024) == 1


def test_a_profile_has_a_bar_for_each_number_of_connections() -> None:
    """Each has two parts for each kind of process: its own code, and the kernel."""
    found = profile.tabulate({1: [sample(1_000)], 64: [sample(100)], 256: [sample(50)]})
    assert [panel.groups for panel in found.panels] == [["1"], ["64", "256"]]
    many = {series.name: list(series.values) for series in found.panels[1].series}
    assert many["ingress"] == [40.0, 20.0]
    assert many["ingress, kernel"] == [10.0, 5.0]
    assert [row["in the kernel"] for row in found.rows] == ["20%"] * 3
