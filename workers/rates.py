"""How many executions of each subject were recorded lately, without remembering any. Pure."""

from collections import Counter, deque
from typing import Final

WINDOW_S: Final = 60.0
SLICE_S: Final = 5.0
SUBJECTS_MAX: Final = 2_000
"""In a slice; strangers may name any number of tasks. More than a worker's presence has room for,
and summed up in 10 ms."""


class Rates:
    """Counts by subject, forgotten after a minute."""

    def __init__(self) -> None:
        self._slices: deque[tuple[float, Counter[str]]] = deque()

    def add(self, subject: str, count: int, now: float) -> None:
        """*count* executions of *subject* were recorded; *now* in seconds, never decreasing."""
        if not self._slices or now - self._slices[-1][0] >= SLICE_S:
            self._slices.append((now, Counter()))
            self._forget(now)
        latest = self._slices[-1][1]
        if subject in latest or len(latest) < SUBJECTS_MAX:
            latest[subject] += count

    def per_s(self, now: float) -> dict[str, float]:
        """Of the last minute, for those that had any."""
        self._forget(now)
        total: Counter[str] = Counter()
        for _, counted in self._slices:
            total.update(counted)
        return {subject: round(count / WINDOW_S, 3) for subject, count in total.items()}

    def _forget(self, now: float) -> None:
        while self._slices and now - self._slices[0][0] > WINDOW_S:
            self._slices.popleft()
