"""Tier 2: a program's answers on examples that its engine did not see."""

import statistics
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from loopai.quality import comparison, wilson
from loopai.synthesis import candidate as candidates
from streams import messages

TIMEOUT_MS: Final = 1_000.0
"""Per input. Far above any latency target: what is slow is judged by its latency, not cut off."""
FAILURES_MAX: Final = 5
FAILURE_CHARACTERS_MAX: Final = 300
CLASSES_MAX: Final = 100
"""With more different outputs than this they are not classes, and a table of them helps nobody."""


class Outcome(Protocol):
    """What the sandbox says about one input; `loopai.sandbox.outcome.Outcome` is one."""

    @property
    def kind(self) -> str: ...
    @property
    def output(self) -> bytes | None: ...
    @property
    def message(self) -> str | None: ...
    @property
    def run_ms(self) -> float: ...


class Run(Protocol):
    """Runs *code* on each of *inputs* behind a boundary: one outcome each, in order."""

    async def __call__(
        self, code: str, inputs: Sequence[bytes], timeout_ms: float
    ) -> Sequence[Outcome]: ...


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    evaluation: messages.Evaluation
    estimated_latency_ms: float
    """Median time inside the sandbox; 0.0 where nothing ran."""
    failures: tuple[str, ...]
    """The first few wrong or failed answers, in words."""
    answered: int
    """Inputs that gave an output, right or wrong."""


async def evaluate(candidate: candidates.Candidate, run: Run) -> Judgement:
    """Run the candidate on its held-out examples. A failed run counts as a wrong answer."""
    inputs = [bytes(example.input) for example in candidate.held_out]
    expected = [msgspec.json.decode(example.output) for example in candidate.held_out]
    outcomes = await _outcomes(candidate.code, inputs, run)
    answers = [_answer(outcome) for outcome in outcomes]
    hits = [
        not isinstance(answer, _Nothing) and comparison.matches(want, answer, candidate.tolerance)
        for want, answer in zip(expected, answers, strict=True)
    ]
    right, total = sum(hits), len(hits)
    return Judgement(
        evaluation=messages.Evaluation(
            examples_seen=candidate.seen,
            examples_held_out=total,
            held_out_accuracy=right / total if total else 0.0,
            lower_bound=wilson.lower_bound(right, total),
            classes=_class_scores(expected, answers) if candidate.tolerance is None else (),
            tolerance=candidate.tolerance,
        ),
        estimated_latency_ms=statistics.median(o.run_ms for o in outcomes) if outcomes else 0.0,
        failures=_failures(candidate.held_out, outcomes, hits),
        answered=sum(not isinstance(answer, _Nothing) for answer in answers),
    )


async def _outcomes(code: str, inputs: Sequence[bytes], run: Run) -> Sequence[Outcome]:
    """One outcome each. Lost ones, which say nothing about the program, are run once more."""
    outcomes = list(await run(code, inputs, TIMEOUT_MS))
    if len(outcomes) != len(inputs):
        raise ValueError(f"{len(inputs)} inputs gave {len(outcomes)} outcomes")
    lost = [index for index, outcome in enumerate(outcomes) if outcome.kind == "lost"]
    if lost:
        again = await run(code, [inputs[index] for index in lost], TIMEOUT_MS)
        for index, outcome in zip(lost, again, strict=True):
            outcomes[index] = outcome
    return outcomes


class _Nothing:
    """Stands where a run gave no output: None is an answer (JSON null)."""


def _answer(outcome: Outcome) -> object:
    if outcome.kind != "success" or outcome.output is None:
        return _Nothing()
    try:
        return msgspec.json.decode(outcome.output)
    except (msgspec.DecodeError, RecursionError):  # the sandbox checks this too; trust neither side
        return _Nothing()


def _failures(
    examples: Sequence[messages.Example], outcomes: Sequence[Outcome], hits: Sequence[bool]
) -> tuple[str, ...]:
    words = []
    for example, outcome, hit in zip(examples, outcomes, hits, strict=True):
        if hit:
            continue
        if outcome.kind == "success":
            got = _cut(outcome.output or b"")
        else:
            got = f"{outcome.kind}: {outcome.message or ''}"[:FAILURE_CHARACTERS_MAX]
        words.append(f"{_cut(example.input)} gave {got} instead of {_cut(example.output)}")
        if len(words) == FAILURES_MAX:
            break
    return tuple(words)


def _cut(json: bytes | msgspec.Raw) -> str:
    text = bytes(json).decode(errors="replace")
    if len(text) <= FAILURE_CHARACTERS_MAX:
        return text
    return text[: FAILURE_CHARACTERS_MAX - 1] + "…"


def _class_scores(
    expected: Sequence[object], answers: Sequence[object]
) -> tuple[messages.ClassScore, ...]:
    """Precision and recall of each expected output, in order of their labels."""
    values: dict[str, object] = {}
    for value in expected:
        values.setdefault(_key(value), value)
    if len(values) > CLASSES_MAX:
        return ()
    wanted = [_key(value) for value in expected]
    given = [_given(values, answer) for answer in answers]
    scores = []
    for key in sorted(values):
        value = values[key]
        support = wanted.count(key)
        claimed = given.count(key)
        right = sum(w == g == key for w, g in zip(wanted, given, strict=True))
        scores.append(
            messages.ClassScore(
                label=value if isinstance(value, str) else key,
                precision=right / claimed if claimed else 0.0,
                recall=right / support,
                support=support,
            )
        )
    return tuple(scores)


def _given(values: dict[str, object], answer: object) -> str | None:
    if isinstance(answer, _Nothing):
        return None
    for key, value in values.items():
        if comparison.matches(value, answer, None):
            return key
    return None


def _key(value: object) -> str:
    """The value's JSON, in which 1.0 and 1 are the same, but "1" is another."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value, order="deterministic").decode()
