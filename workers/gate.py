"""How many posts may be under way to one endpoint, and when whoever finds no room comes again.

Pure: times are arguments.
"""

from typing import Final

WAIT_S_LEAST, WAIT_S_MOST = 0.05, 30.0
"""How soon and how late one that found no room is told to come again."""
FIRST_GUESS_S: Final = 0.1
"""What a post takes, until one has ended."""
NEWEST: Final = 0.2
"""Weight of the latest post in the mean of how long they take."""


class _Door:
    def __init__(self) -> None:
        self.inside = 0
        self.mean_s = FIRST_GUESS_S
        self.next_turn = 0.0


class Gate:
    """Lets *most* in at a time under each name."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._doors: dict[str, _Door] = {}

    def enter(self, name: str, now: float) -> float:
        """0: it is in. Else the seconds after which there should be room for it.

        Those who wait are told different times, as if they stood in a queue: told the same, all of
        a thousand would come back for each place that becomes free.
        """
        door = self._doors.setdefault(name, _Door())
        if door.inside < self._most:
            door.inside += 1
            return 0.0
        door.next_turn = max(door.next_turn, now) + door.mean_s / self._most
        return min(max(door.next_turn - now, WAIT_S_LEAST), WAIT_S_MOST)

    def leave(self, name: str, took_s: float) -> None:
        """One that was let in has ended."""
        door = self._doors[name]
        door.inside -= 1
        door.mean_s += NEWEST * (took_s - door.mean_s)
        if not door.inside:
            del self._doors[name]  # names come and go: none must stay
