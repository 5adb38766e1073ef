"""When changes of a rollout count as slow, or as harmful."""

import pytest

from bench import rollout


@pytest.mark.parametrize(
    ("slowest", "refused", "failed", "expected"),
    [
        (0.02, 0, 0, []),
        (0.3, 0, 0, ["activation: p99 300 ms until the new version answers, target 250 ms"]),
        (0.02, 2, 3, ["5 requests failed while versions changed"]),
    ],
)
def test_slow_changes_and_failed_requests_are_failures(
    slowest: float, refused: int, failed: int, expected: list[str]
) -> None:
    """Whether they failed at the door or in a worker."""
    found = rollout.Found(
        activations=[0.01] * 190 + [slowest] * 10,
        rollbacks=[0.005] * 50,
        load=rollout.Load(requests=9_000, failed=refused),
        calls=1_000,
        failed=failed,
    )
    told = rollout.tabulate(found)
    assert told.failures == expected
    assert [str(row["p50"]) for row in told.rows] == ["10.0 ms", "5.0 ms"]
    assert "10,000 requests" in told.notes[0]
