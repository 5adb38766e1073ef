"""Limits of memory and processes for a whole cell, where this process may make control groups.

An extra: rlimits bound each executor without it. What it adds is one bound for all of a cell, what
the kernel holds for it included, and the kernel's word that it killed for lack of memory. Both
versions: docs.kernel.org/admin-guide/cgroup-v1/memory.html and …/cgroup-v2.html.
"""

import contextlib
import errno
import itertools
import os
import pathlib
import re
import secrets
from collections.abc import Sequence
from typing import Final

_OOM_KILLS: Final = re.compile(r"^oom_kill (\d+)", re.MULTILINE)
_PREFIX: Final = "loopai-"
_LEAF: Final = "worker"
_WANTED: Final = ("memory", "pids")


class UnavailableError(Exception):
    """There are no control groups for us. The message says why."""


class Group:
    """The control group of one cell. Whoever made it closes it when its processes are gone."""

    def __init__(self, folders: Sequence[pathlib.Path], events: pathlib.Path) -> None:
        self._folders = folders
        self._events = events
        self._seen = 0

    def add(self, pid: int) -> None:
        """Move *pid* here; what it forks from now on is here too."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def has_killed(self) -> bool:
        """Whether the kernel has killed in here for lack of memory since we last asked."""
        found = _OOM_KILLS.search(self._events.read_text())
        kills = int(found[1]) if found else 0
        before, self._seen = self._seen, kills
        return kills > before

    def close(self) -> None:
        for folder in self._folders:
            with contextlib.suppress(OSError):  # the next worker sweeps what is left
                folder.rmdir()


class Cgroups:
    """Where this process makes the groups of its cells. Found once, closed by the finder."""

    def __init__(
        self, roots: Sequence[pathlib.Path], *, version: int, aside: "_Aside | None" = None
    ) -> None:
        self.version = version
        self._roots = roots
        self._aside = aside
        self._numbers = itertools.count()

    def __str__(self) -> str:
        return f"v{self.version}, below {self._roots[0].parent}"

    def group(self, *, memory_bytes_max: int, pids_max: int) -> Group:
        """Make an empty group. OSError where the kernel refuses it by now."""
        name = str(next(self._numbers))
        folders = [root / name for root in self._roots]
        for folder in folders:
            folder.mkdir()
        by_name = {path.name: path for folder in folders for path in folder.iterdir()}
        for file, value in (
            ("memory.limit_in_bytes", memory_bytes_max),  # version 1
            ("memory.max", memory_bytes_max),
            ("memory.swap.max", 0),
            ("pids.max", pids_max),
        ):
            if file in by_name:
                by_name[file].write_text(str(value))
        return Group(
            folders, by_name["memory.oom_control" if self.version == 1 else "memory.events"]
        )

    def close(self) -> None:
        if self._aside is not None:
            self._aside.back()
        for root in self._roots:
            _remove(root)


class _Aside:
    """Version 2: groups with limits lie below one without processes, so this one leaves its own."""

    def __init__(self, own: pathlib.Path) -> None:
        self._own = own
        # Found before by this process, or by the one that forked it: it is in a leaf already.
        nested = own.name == _LEAF and own.parent.name.startswith(_PREFIX)
        self._parent = own.parents[1] if nested else own
        offered = set((self._parent / "cgroup.controllers").read_text().split())
        if not offered.issuperset(_WANTED):
            raise UnavailableError(
                f"{self._parent} offers {sorted(offered)}, and not both of {_WANTED}"
            )
        enabled = (self._parent / "cgroup.subtree_control").read_text().split()
        self._added = [name for name in _WANTED if name not in enabled]
        self.place = _place(self._parent)
        self._leaf = self.place / _LEAF

    def go(self) -> None:
        """Move this process into a leaf of `place`; groups beside the leaf may have limits then."""
        self._leaf.mkdir(exist_ok=True)
        _move(self._leaf)
        for folder in (self._parent, self.place):
            (folder / "cgroup.subtree_control").write_text(_each("+", _WANTED))

    def back(self) -> None:
        """Undo it: the kernel removes no group with a process, and one with limits takes none.

        Where that cannot be, this process stays in its leaf, and the next worker sweeps.
        """
        with contextlib.suppress(OSError):
            if str(os.getpid()) not in (self._leaf / "cgroup.procs").read_text().split():
                return  # found again since, and moved on
            # Any other group below the parent may have its limits by what we added there.
            if self._added and _groups(self._parent) == [self.place]:
                for folder in (self.place, self._parent):
                    (folder / "cgroup.subtree_control").write_text(_each("-", self._added))
            _move(self._own)


def find(proc: str = "/proc/self") -> Cgroups:
    """Make a place for groups below this process's own. UnavailableError says what is missing."""
    try:
        mounts, own = _mounts(proc), _own(proc)
        if all(name in mounts and name in own for name in _WANTED):
            parents = [_below(mounts[name], own[name]) for name in _WANTED]
            return Cgroups([_place(parent) for parent in parents], version=1)
        if "" in mounts and "" in own:
            aside = _Aside(_below(mounts[""], own[""]))
            found = Cgroups([aside.place], version=2, aside=aside)
            try:
                aside.go()
            except OSError:
                found.close()
                raise
            return found
    except OSError as error:
        if error.errno == errno.EBUSY:
            reason = "this process shares its group with others, and version 2 needs one of its own"
            raise UnavailableError(reason) from error
        raise UnavailableError(f"this process may not make them: {error}") from error
    raise UnavailableError("no control groups for memory and pids are mounted")


def _mounts(proc: str) -> dict[str, tuple[pathlib.Path, str]]:
    """By controller, "" for version 2: where it is mounted, and which group is there."""
    found = {}
    for line in pathlib.Path(proc, "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found[""] = (pathlib.Path(point), root)
        elif kind == "cgroup":
            for name in set(_WANTED) & set(options.split(",")):
                found[name] = (pathlib.Path(point), root)
    return found


def _own(proc: str) -> dict[str, str]:
    """By controller, "" for version 2: the group of this process."""
    found = {}
    for line in pathlib.Path(proc, "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        found.update(dict.fromkeys(names.split(","), path))
    return found


def _below(mount: tuple[pathlib.Path, str], path: str) -> pathlib.Path:
    """The folder of the group *path*, of which *mount* may show only a part (in a container)."""
    point, root = mount
    return point / os.path.relpath(path, root) if root != "/" else point / path.lstrip("/")


def _place(parent: pathlib.Path) -> pathlib.Path:
    _sweep(parent)
    place = parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    place.mkdir()
    return place


def _move(folder: pathlib.Path) -> None:
    (folder / "cgroup.procs").write_text(str(os.getpid()))


def _each(sign: str, names: Sequence[str]) -> str:
    return " ".join(sign + name for name in names)


def _groups(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def _sweep(parent: pathlib.Path) -> None:
    """Remove the empty groups of workers that were killed."""
    for place in parent.glob(f"{_PREFIX}*"):
        pid = place.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not pathlib.Path("/proc", pid).exists():
            _remove(place)


def _remove(place: pathlib.Path) -> None:
    """Control groups are folders whose files vanish with them; one with processes stays."""
    with contextlib.suppress(OSError):
        for folder in _groups(place):
            folder.rmdir()
        place.rmdir()
