"""What has become of a rollout: its lines, and what a way back leads to. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from streams.messages import Rollout, RolloutAction, RolloutChange

HISTORY_MAX: Final = 100
"""Lines that a rollout keeps."""
SET_ACTIVE: Final[frozenset[RolloutAction]] = frozenset({"activate", "rollback", "promote"})
"""What changes the active version."""


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who changes a rollout, and when."""

    by: str
    now: datetime


def recorded(
    old: Rollout,
    new: Rollout,
    author: Author,
    *,
    action: RolloutAction = "activate",
    forced: Iterable[int] = (),
) -> Rollout:
    """*new* with a line for each thing in which it differs from *old*; *old* if it does not.

    *action* is how the active version changed. The versions in *forced* were insisted on.
    """
    forced = frozenset(forced)
    lines = [
        RolloutChange(
            at=author.now,
            by=author.by,
            action=what,
            version=version,
            previous=previous,
            percent=percent,
            forced=version in forced and not what.endswith("_off"),
        )
        for what, version, previous, percent in _differences(old, new, action)
    ]
    if not lines:
        return old
    return msgspec.structs.replace(new, history=_bounded((*old.history, *lines)))


def previous(rollout: Rollout) -> int | None:
    """The version to go back to; None where there is none.

    As with undo: going back twice goes further back, and never to what was gone back from.
    """
    path: list[int] = []
    for line in rollout.history:
        if line.action not in SET_ACTIVE:
            continue
        if not path and line.previous is not None:
            path.append(line.previous)
        if line.action == "rollback":
            while path and path[-1] != line.version:
                path.pop()
        if not path or path[-1] != line.version:
            path.append(line.version)
    return path[-2] if len(path) > 1 else None


def deployed_at(rollout: Rollout, version: int) -> datetime | None:
    """When *version* became active for the last time, as far as the history goes."""
    found = (c.at for c in reversed(rollout.history) if _activates(c) and c.version == version)
    return next(found, None)


_Line = tuple[RolloutAction, int, int | None, float | None]


def _differences(old: Rollout, new: Rollout, action: RolloutAction) -> Iterable[_Line]:
    if new.active is not None and new.active != old.active:
        yield action, new.active, old.active, None
    was, now = old.canary, new.canary
    if now is not None:
        if was is None or (was.version, was.percent) != (now.version, now.percent):
            yield "canary", now.version, was.version if was else None, now.percent
    # A promotion says by itself that the canary has ended.
    elif was is not None and action != "promote":
        yield "canary_off", was.version, None, None
    if new.shadow is not None and new.shadow != old.shadow:
        yield "shadow", new.shadow, old.shadow, None
    elif new.shadow is None and old.shadow is not None:
        yield "shadow_off", old.shadow, None, None


def _bounded(history: tuple[RolloutChange, ...]) -> tuple[RolloutChange, ...]:
    """The last lines of *history*; with the last activation, however long ago: it is the way back.

    A canary that grows in a hundred steps must not take it away.
    """
    kept = history[-HISTORY_MAX:]
    if any(map(_activates, kept)):
        return kept
    activations = [line for line in history if _activates(line)]
    return (*activations[-1:], *kept[len(activations[-1:]) :])


def _activates(line: RolloutChange) -> bool:
    return line.action in SET_ACTIVE
