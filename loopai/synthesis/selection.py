"""The one path that judges candidates, whoever wrote them: screen, evaluate, pick the best."""

import asyncio
from collections.abc import Sequence

import msgspec

from loopai.synthesis import candidate as proposals
from loopai.synthesis import engine, evaluation, screening
from streams import messages


class Winner(msgspec.Struct, frozen=True, kw_only=True):
    candidate: proposals.Candidate
    judgement: evaluation.Judgement
    complexity: messages.ComplexityMetrics


async def best(candidates: Sequence[proposals.Candidate], run: evaluation.Run) -> Winner:
    """Pick by held-out accuracy, the smaller program where that ties.

    Raises CannotGenerate with the reasons where no candidate passes screening and answers at least
    once. Picking among many by the held-out score makes the winner's bound optimistic, so engines
    choose among their models by what they have seen, and propose few.
    """
    winners: list[Winner] = []
    reasons: list[str] = []
    for candidate in candidates:
        try:
            # Parsing a large program takes a tenth of a second, which the event loop has not.
            complexity = await asyncio.to_thread(screening.screen, candidate.code)
        except screening.Refused as refusal:
            reasons.append(str(refusal))
            continue
        judgement = await evaluation.evaluate(candidate, run)
        if judgement.answered == 0:
            reasons.append(judgement.failures[0] if judgement.failures else "nothing was held out")
            continue
        complexity = msgspec.structs.replace(
            complexity, estimated_latency_ms=judgement.estimated_latency_ms
        )
        winners.append(Winner(candidate=candidate, judgement=judgement, complexity=complexity))
    if not winners:
        told = "; ".join(reasons) or "the engine proposed none"
        raise engine.CannotGenerate("INVALID_PROGRAM", f"no candidate can be used: {told}")
    return max(winners, key=_rank)


def _rank(winner: Winner) -> tuple[float, int]:
    accuracy = winner.judgement.evaluation.held_out_accuracy
    return accuracy, -len(winner.candidate.code.encode())
