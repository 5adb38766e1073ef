"""What /proc says of the processes below this one."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Process(msgspec.Struct, frozen=True):
    pid: int
    parent: int
    cpu_s: float
    """User and system time, its own and that of the children it has waited for."""
    resident_mb: float


def below(root: int) -> dict[int, Process]:
    """All descendants of *root* by pid, without itself."""
    return _below(root, _every())


def children() -> set[int]:
    """Of this process, by pid."""
    return {each.pid for each in _every().values() if each.parent == os.getpid()}


def cpu_s(roots: Collection[int]) -> float:
    """User and system time of *roots* and of all below them."""
    every = _every()
    found = {pid: every[pid] for pid in roots if pid in every}
    for pid in roots:
        found |= _below(pid, every)
    return sum(each.cpu_s for each in found.values())


def own(pid: int) -> Process:
    """*pid* as it is now, without those below it."""
    found = _read(Path(f"/proc/{pid}"))
    if found is None:
        raise ProcessLookupError(pid)
    return found


def _every() -> dict[int, Process]:
    every = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (found := _read(folder)) is not None:
            every[found.pid] = found
    return every


def _below(root: int, every: Mapping[int, Process]) -> dict[int, Process]:
    children: dict[int, list[Process]] = {}
    for process in every.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    level = [root]
    while level:
        of_level = [child for pid in level for child in children.get(pid, ())]
        found |= {child.pid: child for child in of_level}
        level = [child.pid for child in of_level]
    return found


def _read(folder: Path) -> Process | None:
    try:
        words = (folder / "stat").read_text().rpartition(") ")[2].split()
    except OSError:  # it has ended
        return None
    return Process(
        pid=int(folder.name),
        parent=int(words[1]),
        cpu_s=sum(map(int, words[11:15])) / _TICKS_A_SECOND,
        resident_mb=int(words[21]) * os.sysconf("SC_PAGESIZE") / 1e6,
    )


def pss_mb(pids: Collection[int], field: str = "Pss") -> float:
    """Memory of *pids*, each shared page divided by how many processes have it mapped.

    Of executors only root may read it: they are not dumpable. *field* is one of smaps_rollup.
    """
    return sum(_smaps(pid, field) for pid in pids) / 1e3


def _smaps(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024 // 1000
    return 0


def own_rss_mb() -> float:
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * os.sysconf("SC_PAGESIZE") / 1e6
