"""What a generated version says of itself."""

from datetime import UTC, datetime

from loopai.catalog.catalog import new_artifact
from loopai.sandbox import admission
from loopai.synthesis import candidate, evaluation, selection
from streams import messages
from workers import generator

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _described(admitted: admission.Admission) -> messages.ProgramArtifact:
    winner = selection.Winner(
        candidate=candidate.Candidate(
            code="",
            engine="examples",
            strategy="rule",
            description="",
            seen=8,
            held_out=(),
            tolerance=None,
        ),
        judgement=evaluation.Judgement(
            evaluation=messages.Evaluation(
                examples_seen=8, examples_held_out=2, held_out_accuracy=1.0, lower_bound=0.3
            ),
            estimated_latency_ms=0.1,
            failures=(),
            answered=2,
        ),
        complexity=messages.ComplexityMetrics(),
    )
    task = messages.TaskSpecification(
        id="t", tenant="default", name="t", created_at=NOW, updated_at=NOW
    )
    artifact = new_artifact("t", language="python", created_by="test", now=NOW)
    return generator._described(artifact, winner, admitted, task, 1.0)


def test_a_pure_winner_is_shared_and_told_by_its_score() -> None:
    """Nothing more is said of what is as it should be."""
    found = _described(
        admission.Admission(isolation="shared", stateful=False, reason="it loads", latency_ms=0.1)
    )
    assert (found.isolation, found.status) == ("shared", "validated")
    assert found.status_reason == "100.0% of 2 held-out examples answered right"


def test_a_stateful_winner_is_isolated_and_says_why() -> None:
    """The input that showed it stands in the version's reason."""
    found = _described(
        admission.Admission(
            isolation="batch", stateful=True, reason="it is stateful: the input 7", latency_ms=0.1
        )
    )
    assert found.isolation == "batch"
    assert found.status_reason.endswith("; it is stateful: the input 7")
