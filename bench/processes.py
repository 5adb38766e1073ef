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
    system_s: float
    """What of it the kernel took."""
    resident_mb: float


def below(root: int) -> dict[int, Process]:
    """All descendants of *root* by pid, without itself."""
    return _below(root, _every())


def children() -> set[int]:
    """Of this process, by pid."""
    return {each.pid for each in _every().values() if each.parent == os.getpid()}


def cpu_s(roots: Collection[int]) -> float:
    """User and system time of *roots* and of all below them."""
    return sum(each.cpu_s for found in trees(roots).values() for each in found)


def trees(roots: Collection[int]) -> dict[int, list[Process]]:
    """Each of *roots* that still runs, with all below it: itself comes first. At one moment."""
    every = _every()
    return {root: [every[root], *_below(root, every).values()] for root in roots if root in every}


def command(pid: int) -> str:
    """What *pid* runs, in short: of `python -m` the module and its arguments; empty if it ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return ""
    if "-m" in words:
        return " ".join(words[words.index("-m") + 1 :]).strip()
    return Path(words[0]).name


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
    user, system, user_below, system_below = (int(word) / _TICKS_A_SECOND for word in words[11:15])
    own = user + system
    if words[17] == "1":
        # Counted in whole hundredths of a second, one of a thousand cells would do nothing at all.
        own = _run_s(folder) or own
    return Process(
        pid=int(folder.name),
        parent=int(words[1]),
        cpu_s=own + user_below + system_below,
        system_s=system + system_below,
        resident_mb=int(words[21]) * os.sysconf("SC_PAGESIZE") / 1e6,
    )


def _run_s(folder: Path) -> float:
    """CPU time of the main thread, exactly; 0 where the kernel does not tell, or it has ended."""
    try:
        return int((folder / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


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
