"""How rounds of requests become a table."""

from bench import http, report


def sample(rate: float, *, failed: int = 0) -> http.Sample:
    return http.Sample(rate=rate, p50_s=1e-3, p99_s=10 / rate, cpu_s=1e-4, failed=failed)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that was slow in one round was so for both; the ratio of medians would be 1.0."""
    samples = {
        (64, "loopai"): [sample(100), sample(400), sample(200)],
        (64, "echo"): [sample(50), sample(200), sample(400)],
    }
    assert http.ratio(samples, 64, "rate", "loopai", "echo") == 2.0


def test_the_table_has_a_row_for_each_and_says_whether_targets_hold() -> None:
    """A target that is missed is told in words; what was not measured has none."""
    samples = {
        (64, "loopai"): [sample(300)],
        (64, "echo"): [sample(200)],
        (64, "arq"): [sample(200)],
        (64, "celery"): [sample(50)],
    }
    found = http.tabulate(samples)
    assert [row["what"] for row in found.rows] == [
        "Loopai",
        "bare Starlette echo",
        "arq, Redis",
        "Celery, Redis",
    ]
    assert str(found.rows[0]["times echo"]) == "1.50"
    at = "Loopai at 64 connections:"
    assert found.notes == [
        f"{at} 1.50 times the echo's rate. Target ≥ 1.0: holds.",
        f"{at} 0.67 times the echo's p99. Target ≤ 1.5: holds.",
        f"{at} 1.50 times arq, Redis, the fastest peer. Target ≥ 3.0: DOES NOT HOLD.",
    ]
    assert found.failures == []
    assert http.tabulate({(1, "loopai"): [sample(1)]}).notes == []


def test_requests_that_failed_are_failures_of_the_bench() -> None:
    """A rate of answers that were errors is no rate."""
    found = http.tabulate({(16, "taskiq"): [sample(10, failed=3), sample(10)]})
    assert found.failures == [
        "taskiq, JetStream, 16 connections: 3 requests were refused or not answered"
    ]


def test_every_panel_has_a_value_for_each_group() -> None:
    """What draws them relies on it."""
    samples = {(count, name): [sample(5)] for count in (1, 64) for name in ("loopai", "echo")}
    for panel in http.tabulate(samples).panels:
        assert panel.groups == ["1", "64"]
        assert [len(series.values) for series in panel.series] == [2, 2]
        assert [series.role for series in panel.series] == ["ours", "reference"]


def test_a_report_is_a_table_in_markdown() -> None:
    """Notes are paragraphs of their own, and an empty field keeps its place."""
    found = report.Report(
        title="t",
        columns=("what", "p50"),
        rows=[{"what": "one", "p50": report.Figure(0.0021, "s")}, {"what": "two"}],
        notes=["Said."],
    )
    assert found.markdown() == (
        "| what | p50 |\n| --- | --- |\n| one | 2.1 ms |\n| two |  |\n\nSaid."
    )
