"""A program that an engine proposes, with what is needed to judge it."""

import msgspec

from streams import messages


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    engine: str
    strategy: messages.Strategy
    description: str
    """One line for people: the model, and what it was chosen from."""
    seen: int
    """Examples that the engine learned from."""
    held_out: tuple[messages.Example, ...]
    """Examples that it did not see, and that no seen example shares an input with."""
    tolerance: float | None
    """Largest absolute error of a number that counts as right; None compares exactly."""
