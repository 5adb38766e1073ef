"""How a program may be run: whether it loads, and whether its answers depend on what came before.

A program is a pure function of its input. One that is not, such as one that counts its calls, is
stateful: in a process that stays warm its answers would depend on other callers' inputs. It is
found by running the same inputs in order, in reverse order, and in fresh processes.
"""

import secrets
import statistics
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from loopai.sandbox import outcome, pool, program
from streams import messages

INPUTS_MAX: Final = 32
"""Inputs that a program is tried on; more are left out."""
FRESH_MAX: Final = 4
"""Of these, how many are tried in a process of their own as well: each costs a fork."""
INPUT_MS_MAX: Final = 1_000.0
"""Longest run on one input."""
TRIAL_S_MAX: Final = 5.0
"""After that long no further input is begun: what was not tried is taken to be pure."""
WORDS_MAX: Final = 200
"""Characters of an input or an answer in a reason."""

_ANSWERS: Final = frozenset({"success", "error", "output_too_large", "invalid_result"})
"""Outcomes that the program is the cause of; the others also come of a busy machine."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """That a program loads, how it should be run, and what was seen."""

    isolation: messages.Isolation
    stateful: bool
    reason: str
    latency_ms: float
    """Median time inside the cell; 0.0 where nothing was run."""


async def admit(
    cells: pool.CellPool,
    tried: program.Program,
    inputs: Sequence[bytes],
    *,
    wanted: messages.Isolation | None = None,
    input_ms_max: float = INPUT_MS_MAX,
) -> Admission:
    """Load *tried* and run it on the first 32 of *inputs*, which are JSON text.

    *wanted* is the isolation that its author asks for; None leaves it to what is found. Takes at
    most the time to load, and 6 s. program.LoadError, with line and reason, when it does not load.
    """
    # In cells of its own: where the program serves calls already, neither side may see the other's
    # state. A blank, because a tenant's name holds none; a token, because two may try one program.
    tenant = f"{tried.tenant} (trial {secrets.token_hex(4)})"
    shared = msgspec.structs.replace(tried, tenant=tenant, isolation="shared")
    fresh = msgspec.structs.replace(tried, tenant=tenant, isolation="call")
    trial = _Trial(cells, shared, fresh, inputs[:INPUTS_MAX], input_ms_max)
    try:
        await cells.load(shared)
        difference = await trial.difference()
    finally:
        # Their places are wanted by programs that are run.
        await cells.drop(fresh)
        await cells.drop(shared)
    stateful = difference is not None
    isolation: messages.Isolation = wanted or ("batch" if stateful else "shared")
    reason = difference or trial.agreement()
    if stateful and isolation == "shared":
        reason += "; its uploader asked for isolation shared all the same"
    return Admission(
        isolation=isolation, stateful=stateful, reason=reason, latency_ms=trial.latency_ms()
    )


class _Trial:
    """One program on a few inputs, until a difference is found or time is up."""

    def __init__(
        self,
        cells: pool.CellPool,
        shared: program.Program,
        fresh: program.Program,
        inputs: Sequence[bytes],
        input_ms_max: float,
    ) -> None:
        self._input_ms_max = input_ms_max
        self._cells = cells
        self._shared = shared
        self._fresh = fresh
        self._inputs = inputs
        self._ends = time.monotonic() + TRIAL_S_MAX
        self._first: dict[int, outcome.Outcome] = {}

    async def difference(self) -> str | None:
        """In words: the first input that gave two answers, and which; None where none did."""
        count = len(self._inputs)
        for index in range(count):
            ended = await self._run(self._shared, index)
            if ended is not None:
                self._first[index] = ended
        for index in reversed(range(count)):
            found = await self._differs(self._shared, index, "after other inputs")
            if found:
                return found
        # The last ones have seen most of the others before them.
        for index in sorted({count * n // FRESH_MAX - 1 for n in range(1, FRESH_MAX + 1)})[::-1]:
            found = await self._differs(self._fresh, index, "in a fresh process")
            if found:
                return found
        return None

    def agreement(self) -> str:
        answered = [ended for ended in self._first.values() if ended.kind in _ANSWERS]
        if not self._inputs:
            return "it loads; there are no examples to try it on"
        told = f"it loads; tried on {len(self._first)} examples in several orders"
        failed = [ended for ended in self._first.values() if ended.kind != "success"]
        if failed:
            told += f", {len(failed)} of which failed, the first with {_words(failed[0])}"
        return told if answered else f"{told}; whether it is stateful is not known"

    def latency_ms(self) -> float:
        times = [ended.run_ms for ended in self._first.values() if ended.kind == "success"]
        return round(statistics.median(times), 3) if times else 0.0

    async def _differs(self, where: program.Program, index: int, when: str) -> str | None:
        first = self._first.get(index)
        if first is None or first.kind not in _ANSWERS:
            return None
        again = await self._run(where, index)
        if again is None or _same(first, again):
            return None
        return (
            f"it is stateful: the input {_cut(self._inputs[index])} gave {_words(first)} at first "
            f"and {_words(again)} {when}"
        )

    async def _run(self, where: program.Program, index: int) -> outcome.Outcome | None:
        """What became of the input; None where time is up, or the program is not to blame."""
        left_ms = (self._ends - time.monotonic()) * 1000
        if left_ms <= 0:
            return None
        timeout_ms = min(self._input_ms_max, left_ms)
        (ended,) = await self._cells.run(where, [self._inputs[index]], [timeout_ms])
        # One that loaded once and then not says as little as a lost one.
        return None if ended.kind == "lost" or ended.error_type == "LoadError" else ended


def _same(first: outcome.Outcome, again: outcome.Outcome) -> bool:
    """Whether both are one answer; true where the second is no answer at all."""
    if again.kind not in _ANSWERS:
        return True
    if first.kind != again.kind:
        return False
    return first.output == again.output or _canonical(first) == _canonical(again)


def _canonical(ended: outcome.Outcome) -> bytes:
    """The output with its keys in one order: the order of keys is no difference."""
    return msgspec.json.encode(msgspec.json.decode(ended.output or b"null"), order="deterministic")


def _words(ended: outcome.Outcome) -> str:
    if ended.kind == "success":
        return _cut(ended.output or b"")
    return f"{ended.kind} ({_cut(ended.message.encode() or ended.error_type.encode())})"


def _cut(text: bytes) -> str:
    told = text.decode(errors="replace")
    return told if len(told) <= WORDS_MAX else told[: WORDS_MAX - 1] + "…"
