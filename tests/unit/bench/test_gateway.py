"""What the bench says of calls over NATS beside HTTP."""

from bench import gateway


def test_the_table_has_the_median_of_the_rounds() -> None:
    """A round that something disturbed does not count."""
    rounds = {
        "HTTP": [gateway.Round(rate=rate, times=[0.001, 0.002, 0.003]) for rate in (90, 100, 10)],
        "NATS": [gateway.Round(rate=rate, times=[0.002, 0.004, 0.006]) for rate in (45, 45, 900)],
    }
    told = gateway.tabulate(rounds)
    assert [str(row["calls a second"]) for row in told.rows] == ["90", "45"]
    assert [str(row["p50"]) for row in told.rows] == ["2.0 ms", "4.0 ms"]
    assert "0.50 times" in told.notes[0]
