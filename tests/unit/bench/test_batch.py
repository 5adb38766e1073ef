"""How rounds of batches become a table."""

from bench import batch


def found(rate: float, *, recorded: int = 10, resident_mb: float = 60) -> batch.Found:
    sample = batch.Sample(rate=rate, cpu_s=dict.fromkeys(batch.ROLES, 2e-6))
    slower = batch.Sample(rate=rate / 2, cpu_s=dict.fromkeys(batch.ROLES, 8e-6))
    samples = {
        (workers, way): [sample, slower, sample] for workers in (1, 2) for way in batch.LABELS
    }
    return batch.Found(samples=samples, resident_mb=resident_mb, asked=10, recorded=recorded)


def test_the_table_has_medians_and_says_whether_targets_hold() -> None:
    """A row for each way and number of workers."""
    shown = batch.tabulate(found(120_000))
    assert len(shown.rows) == 6
    assert str(shown.rows[0]["a second"]) == "120,000"
    assert str(shown.rows[0]["CPU: ingress"]) == "2 µs"
    assert shown.notes[0] == "120,000 a second. Target ≥ 100,000: holds."
    assert shown.notes[1].endswith("the ingress took 60 MB. Target < 150 MB: holds.")
    assert shown.failures == []
    worse = batch.tabulate(found(90_000, resident_mb=200))
    assert [note.endswith("DOES NOT HOLD.") for note in worse.notes[:2]] == [True, True]


def test_executions_without_a_record_are_failures_of_the_bench() -> None:
    """A rate of what was lost is no rate."""
    assert batch.tabulate(found(1, recorded=7)).failures == ["3 of 10 executions were not recorded"]


def test_every_panel_has_a_value_for_each_group() -> None:
    """What draws them relies on it."""
    for panel in batch.tabulate(found(5)).panels:
        assert panel.groups == ["1", "2"]
        assert [len(series.values) for series in panel.series] == [2, 2, 2]
