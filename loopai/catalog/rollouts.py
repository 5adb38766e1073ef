"""Rollouts: which version of a task answers; read from memory, changed by compare-and-set."""

import asyncio
import random
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from loopai import errors
from loopai.catalog import history, mirror, split
from streams import codec, messages, store, topology
from streams.connection import Connection
from streams.messages import Canary, ProgramArtifact, Rollout

CHANGE_S_MAX: Final = 10.0
"""How long a change is tried while others keep being faster: of five processes that change the same
rollout all the time, each loses four attempts of five."""
PAUSE_S_MAX: Final = 0.005
"""Before another attempt, at random, so that those who compete do not do so in step."""
ACTIVATABLE: Final[frozenset[messages.ArtifactStatus]] = frozenset(
    {"validated", "active", "deprecated"}
)

Artifact = Callable[[str, int], Awaitable[ProgramArtifact]]
"""The version of a task as it was stored. ARTIFACT_NOT_FOUND."""


class NewCanary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    percent: float
    """More than 0 and up to 100; two decimals count."""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rollout is to be. What is unset stays; None removes."""

    active: int | msgspec.UnsetType = msgspec.UNSET
    canary: NewCanary | msgspec.UnsetType | None = msgspec.UNSET
    shadow: int | msgspec.UnsetType | None = msgspec.UNSET
    force: bool = False
    """Also to versions that are drafts, or failed; the history says so."""


class Rollouts:
    """The rollouts of all tasks. Start with `start`; errors are errors.ApiError."""

    def __init__(
        self,
        connection: Connection,
        artifact: Artifact,
        on_change: Callable[[store.Change[Rollout]], None],
    ) -> None:
        self._bucket = store.Bucket(connection, topology.ROLLOUTS, codec.ROLLOUT)
        self._mirror = mirror.Mirror(
            connection, topology.ROLLOUTS, codec.ROLLOUT, on_change=on_change
        )
        self._artifact = artifact
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def start(self) -> None:
        await self._mirror.start()

    async def stop(self) -> None:
        await self._mirror.stop()

    async def settle(self) -> None:
        """Wait until everything written before this call is known."""
        await self._mirror.settle()

    def known(self, task_id: str) -> Rollout | None:
        """The rollout as far as memory knows, which lags the bus by 2-3 ms."""
        entry = self._mirror.entries.get(task_id)
        return entry.value if entry else None

    def all(self) -> list[Rollout]:
        """Those of all tasks, as far as memory knows."""
        return [entry.value for entry in self._mirror.entries.values()]

    async def require(self, task_id: str) -> Rollout:
        """A rollout with an active version. NO_ACTIVE_VERSION."""
        found = self.known(task_id)
        if found is None or found.active is None:
            await self.settle()
            found = self.known(task_id)
        if found is None or found.active is None:
            raise errors.ApiError(
                "NO_ACTIVE_VERSION",
                "the task has no active version; generate one, or upload and activate one",
            )
        return found

    async def get(self, task_id: str) -> tuple[Rollout, int]:
        """The rollout as it is on the bus, with its revision: 0 where nothing was ever active."""
        entry = await self._bucket.get(task_id)
        return (entry.value, entry.revision) if entry else (Rollout(task_id=task_id), 0)

    async def delete(self, task_id: str) -> None:
        await self._bucket.delete(task_id)

    async def change(
        self, task_id: str, asked: Change, author: history.Author, *, revision: int | None = None
    ) -> tuple[Rollout, int]:
        """Make it what is *asked*; at *revision* where one is given (else PRECONDITION_FAILED).

        Another active version ends the canary; a version that begins to answer is no shadow any
        more. ARTIFACT_NOT_FOUND, ARTIFACT_NOT_ACTIVATABLE, INVALID_REQUEST, CONFLICT.
        """
        canary = asked.canary.version if isinstance(asked.canary, NewCanary) else None
        named = [each for each in (asked.active, canary, asked.shadow) if isinstance(each, int)]
        forced = [v for v in named if await self._is_forced(task_id, v, force=asked.force)]

        def changed(old: Rollout) -> Rollout:
            return history.recorded(old, _changed(old, asked, author), author, forced=forced)

        return await self._apply(task_id, changed, revision)

    async def promote(
        self, task_id: str, author: history.Author, *, revision: int | None = None
    ) -> tuple[Rollout, int]:
        """Make the canary the active version. NO_CANARY, PRECONDITION_FAILED, CONFLICT."""

        def changed(old: Rollout) -> Rollout:
            if old.canary is None:
                raise errors.ApiError(
                    "NO_CANARY",
                    "the task has no canary; start one, or activate a version",
                )
            new = _activated(old, old.canary.version)
            return history.recorded(old, new, author, action="promote")

        return await self._apply(task_id, changed, revision)

    async def rollback(
        self, task_id: str, author: history.Author, *, revision: int | None = None
    ) -> tuple[Rollout, int]:
        """Make the previous version active; again, the one before that.

        NO_PREVIOUS_VERSION, PRECONDITION_FAILED, CONFLICT.
        """

        def changed(old: Rollout) -> Rollout:
            version = history.previous(old)
            if version is None:
                raise errors.ApiError(
                    "NO_PREVIOUS_VERSION",
                    "no version was active before this one; activate the one that should answer",
                )
            return history.recorded(old, _activated(old, version), author, action="rollback")

        return await self._apply(task_id, changed, revision)

    async def _apply(
        self, task_id: str, changed: Callable[[Rollout], Rollout], revision: int | None
    ) -> tuple[Rollout, int]:
        async with self._locks.setdefault(task_id, asyncio.Lock()):
            give_up = time.monotonic() + CHANGE_S_MAX
            while time.monotonic() < give_up:
                old, current = await self.get(task_id)
                if revision is not None and revision != current:
                    raise errors.ApiError(
                        "PRECONDITION_FAILED",
                        f"the rollout is at revision {current}, not {revision}; read it again",
                    )
                new = changed(old)
                if new is old:
                    return old, current
                try:
                    written = await self._write(new, current)
                except store.Conflict:
                    await asyncio.sleep(random.uniform(0, PAUSE_S_MAX))  # noqa: S311 (no secret)
                    continue
                await self._mirror.reach(written)
                return new, written
        raise errors.ApiError("CONFLICT", "the rollout keeps changing; try again")

    async def _write(self, new: Rollout, current: int) -> int:
        if current:
            return await self._bucket.update(new.task_id, new, current)
        return await self._bucket.create(new.task_id, new)

    async def _is_forced(self, task_id: str, version: int, *, force: bool) -> bool:
        """Whether *version* may have a role only because it is insisted on."""
        artifact = await self._artifact(task_id, version)
        if artifact.status in ACTIVATABLE:
            return False
        if not force:
            raise errors.ApiError(
                "ARTIFACT_NOT_ACTIVATABLE",
                f"version {version} is {artifact.status}: {artifact.status_reason}; "
                "with force it may answer all the same",
            )
        return True


def _changed(old: Rollout, asked: Change, author: history.Author) -> Rollout:
    """*old* as it is *asked* to be. INVALID_REQUEST."""
    new = old if asked.active is msgspec.UNSET else _activated(old, asked.active)
    if asked.canary is not msgspec.UNSET:
        canary = None if asked.canary is None else _canary(new, asked.canary, author)
        # What answers needs no shadow: the same program would run twice.
        shadow = None if canary and canary.version == new.shadow else new.shadow
        new = msgspec.structs.replace(new, canary=canary, shadow=shadow)
    if asked.shadow is not msgspec.UNSET:
        if asked.shadow is not None:
            _require_beside_active(new, asked.shadow, "/shadow")
            if new.canary is not None and new.canary.version == asked.shadow:
                raise _invalid("/shadow", f"version {asked.shadow} is the canary; name another")
        new = msgspec.structs.replace(new, shadow=asked.shadow)
    return new


def _activated(old: Rollout, version: int) -> Rollout:
    """With another version in the canary's place its share would mean another thing."""
    if version == old.active:
        return old
    shadow = None if old.shadow == version else old.shadow
    return msgspec.structs.replace(old, active=version, canary=None, shadow=shadow)


def _canary(rollout: Rollout, asked: NewCanary, author: history.Author) -> Canary:
    percent = round(asked.percent, split.PERCENT_DECIMALS)
    if not 0 < percent <= 100:  # noqa: PLR2004
        raise _invalid("/canary/percent", f"expected 0.01 to 100, not {asked.percent:g}")
    _require_beside_active(rollout, asked.version, "/canary/version")
    current = rollout.canary
    if current is not None and current.version == asked.version:
        return msgspec.structs.replace(current, percent=percent)
    return Canary(version=asked.version, percent=percent, started_at=author.now)


def _require_beside_active(rollout: Rollout, version: int, path: str) -> None:
    if rollout.active is None:
        raise _invalid(path, "the task has no active version to be beside; activate one first")
    if version == rollout.active:
        raise _invalid(path, f"version {version} is the active one; name another")


def _invalid(path: str, message: str) -> errors.ApiError:
    return errors.ApiError(
        "INVALID_REQUEST", f"{path}: {message}", errors=(errors.FieldError(path, message),)
    )
