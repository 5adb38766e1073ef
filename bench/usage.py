"""CPU time of a stack by kind of process."""

from collections.abc import Mapping
from typing import Final

import msgspec

from bench import processes, product

KINDS: Final = ("ingress", "broker", "executor", "cells", "others")
"""`executor` is the host process, `cells` all that it started, `others` generator and recorder."""

_KINDS: Final = {
    "nats-server": "broker",
    "loopai.ingress": "ingress",
    "workers executor": "executor",
}


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    user_s: float = 0.0
    system_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(user_s=self.user_s + other.user_s, system_s=self.system_s + other.system_s)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(user_s=self.user_s - other.user_s, system_s=self.system_s - other.system_s)


Usage = Mapping[str, Cpu]
"""By kind; all of KINDS are there."""


def taken(of: product.Product) -> Usage:
    """CPU time since the start of *of*; a process that ended counts where it was waited for."""
    found = dict.fromkeys(KINDS, Cpu())
    for root, tree in processes.trees(of.pids).items():
        kind = _KINDS.get(processes.command(root), "others")
        for process in tree:
            own = kind if process.pid == root or kind != "executor" else "cells"
            found[own] += Cpu(user_s=process.cpu_s - process.system_s, system_s=process.system_s)
    return found


def between(before: Usage, after: Usage) -> Usage:
    return {kind: after[kind] - before[kind] for kind in KINDS}
