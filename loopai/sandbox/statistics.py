"""What a worker's cells have done, as plain counts that metrics read when they are asked."""

import collections
from typing import Literal

import msgspec

Cause = Literal[
    "timeout",
    "out_of_memory",
    "tampered",
    "exited",
    "cancelled",
    "idle",
    "isolated",
    "recycled",
    "closed",
    "lost",
]
"""Why an executor was ended. `cancelled`: its caller called back the item that ran; `idle`: it used
the processor and had nothing to do; `isolated`: it had its batch or call; `closed`: its cell had to
go; `lost`: it ended by itself between calls."""


class Statistics(msgspec.Struct, kw_only=True):
    """Counts since the pool was made, but for `waiting`, which is now."""

    cells_started: int = 0
    blanks_used: int = 0
    """Cells that a program got without waiting for bubblewrap."""
    executors_started: int = 0
    hits: int = 0
    """Calls of `run` whose program was in a cell already."""
    misses: int = 0
    evictions: int = 0
    """Cells closed for others, by number or by memory."""
    kills: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    """Executors ended, by Cause."""
    frames: int = 0
    """Frames of inputs given to executors, those that had to be repeated included."""
    outcomes: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    """Calls by OutcomeKind."""
    waiting: int = 0
    """Calls of `run` that have not begun: for a cell, or behind another call of their program."""
