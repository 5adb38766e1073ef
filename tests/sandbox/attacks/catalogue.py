"""Every attack, by area."""

from tests.sandbox.attacks import (
    environment,
    filesystem,
    javascript,
    network,
    processes,
    resources,
    results,
    stalls,
    tampering,
)
from tests.sandbox.attacks.attack import Area, Attack

PYTHON: dict[Area, tuple[Attack, ...]] = {
    "filesystem": filesystem.ATTACKS,
    "environment": environment.ATTACKS,
    "processes": processes.ATTACKS,
    "network": network.ATTACKS,
    "resources": resources.ATTACKS,
    "stalls": stalls.ATTACKS,
    "tampering": tampering.ATTACKS,
    "results": results.ATTACKS,
}

JAVASCRIPT: dict[Area, tuple[Attack, ...]] = {"javascript": javascript.ATTACKS}


def named(*, areas: dict[Area, tuple[Attack, ...]]) -> dict[str, Attack]:
    """The attacks of *areas* by "area: name", the name of their test."""
    return {f"{area}: {attack.name}": attack for area, many in areas.items() for attack in many}
