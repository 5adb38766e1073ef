"""Names that were asked for and are not there: remembered for a moment, so as not to ask again."""

from collections import OrderedDict
from typing import Final

KEPT_S: Final = 1.0
NAMES_MAX: Final = 10_000
"""The oldest go: strangers may make up any number. Names are short, so this is 3 MB at most."""


class Unknown:
    """Pairs of tenant and name. Times never decrease."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, tenant: str, name: str, now: float) -> None:
        """*name* was not there at *now*."""
        self._until[tenant, name] = now + KEPT_S
        self._until.move_to_end((tenant, name))
        while len(self._until) > NAMES_MAX:
            self._until.popitem(last=False)

    def holds(self, tenant: str, name: str, now: float) -> bool:
        """Whether it was not there a moment ago."""
        return self._until.get((tenant, name), 0.0) > now
