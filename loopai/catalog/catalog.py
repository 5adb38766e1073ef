"""Tasks, artifact versions and rollouts: reads from memory, writes by compare-and-set."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from loopai import errors
from loopai.catalog import history, mirror, rollouts, shelf, unknown
from loopai.catalog.stores import store as stores
from streams import codec, ids, messages, store, subjects, topology
from streams.connection import Connection
from streams.messages import ProgramArtifact, Rollout, TaskHead, TaskSpecification

M = TypeVar("M", bound=messages.Message)

CAS_ATTEMPTS = 32


class Catalog:
    """Everything known of tasks. Open with `opened`; errors are errors.ApiError.

    Reads come from memory, which lags the bus by 2-3 ms. Whoever writes waits until memory has it;
    whoever misses something waits until memory has caught up and looks again, so what one process
    wrote another finds. Texts go through *texts*, such as a cache, or straight to *own*.
    """

    def __init__(
        self, connection: Connection, own: stores.Store, texts: stores.Texts | None = None
    ) -> None:
        self._tasks = store.Bucket(connection, topology.TASKS, codec.TASK)
        self._artifacts = store.Bucket(connection, topology.ARTIFACTS, codec.ARTIFACT)
        self._texts = texts or own
        self.on_change: list[Callable[[str, int | None], None]] = []
        """Told of every change that the watch brings: the task's id and the version that is new,
        or None where its rollout is."""
        self._shelf = shelf.Shelf(own)
        self._keys: dict[str, str] = {}  # task id → key in the tasks bucket
        self._unknown = unknown.Unknown()
        self._heads = mirror.Mirror(
            connection, topology.TASKS, codec.TASK_HEAD, on_change=self._task_changed
        )
        self._versions: dict[str, dict[int, ProgramArtifact]] = {}
        self._artifact_mirror = mirror.Mirror(
            connection, topology.ARTIFACTS, codec.ARTIFACT, on_change=self._artifact_changed
        )
        self._rollouts = rollouts.Rollouts(connection, self._stored, self._rollout_changed)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Catalog"]:
        """Watch while inside; complete on entry."""
        async with contextlib.AsyncExitStack() as stack:
            for each in (self._heads, self._artifact_mirror, self._rollouts):
                stack.push_async_callback(each.stop)
                await each.start()
            yield self

    # --- tasks ---------------------------------------------------------------------------------

    async def task(self, tenant: str, reference: str, *, even_if_missed: bool = False) -> TaskHead:
        """The task of *tenant* with the id or name *reference*. TASK_NOT_FOUND.

        Of one that was not there the bus is asked again after a second, until when a new one is
        found as soon as the watch has brought it; or at once, *even_if_missed* before, for those
        whose answer will stand.
        """
        found = self.find(tenant, reference)
        if found is None and (even_if_missed or self._may_be_new(tenant, reference)):
            await self._heads.settle()
            found = self.find(tenant, reference)
            if found is None:
                self._unknown.add(tenant, reference, time.monotonic())
        if found is None:
            raise errors.ApiError("TASK_NOT_FOUND", f"no task {reference[:130]!r}")
        return found

    def _may_be_new(self, tenant: str, reference: str) -> bool:
        """Whether the bus may know *reference*, which memory does not."""
        # What is neither name nor id can never be one.
        return subjects.is_name(reference) and not self._unknown.holds(
            tenant, reference, time.monotonic()
        )

    def find(self, tenant: str, reference: str) -> TaskHead | None:
        """The same as far as memory knows, which lags the bus by 2-3 ms."""
        key = self._keys.get(reference)
        if key is None:
            if not subjects.is_name(reference):
                return None
            key = subjects.task_key(tenant, reference)
        entry = self._heads.entries.get(key)
        if entry is None or entry.value.tenant != tenant:
            return None
        # A deletion that memory slept through leaves an id that leads to its successor.
        if reference not in (entry.value.id, entry.value.name):
            return None
        return _with_revision(entry)

    async def tasks(self, tenant: str) -> list[TaskHead]:
        """All tasks of *tenant*, by name."""
        await self._heads.settle()
        heads = (_with_revision(each) for each in self._heads.entries.values())
        return sorted((each for each in heads if each.tenant == tenant), key=lambda t: t.name)

    async def create_task(self, task: TaskSpecification) -> TaskSpecification:
        """Store a new task. TASK_ALREADY_EXISTS."""
        try:
            revision = await self._tasks.create(subjects.task_key(task.tenant, task.name), task)
        except store.Conflict as error:
            raise errors.ApiError(
                "TASK_ALREADY_EXISTS",
                f"there is a task {task.name!r} already; choose another name or PATCH that one",
            ) from error
        await self._heads.reach(revision)
        return msgspec.structs.replace(task, revision=revision)

    async def specification(self, tenant: str, reference: str) -> TaskSpecification:
        """The whole task, with its examples, as it is now on the bus. TASK_NOT_FOUND."""
        head = await self.task(tenant, reference)
        entry = await self._tasks.get(subjects.task_key(tenant, head.name))
        if entry is None:
            raise errors.ApiError("TASK_NOT_FOUND", f"no task {reference!r}")
        return msgspec.structs.replace(entry.value, revision=entry.revision)

    async def change_task(
        self,
        tenant: str,
        reference: str,
        change: Callable[[TaskSpecification], TaskSpecification],
        *,
        revision: int | None,
    ) -> TaskSpecification:
        """Apply *change*; at *revision* where one is given (else PRECONDITION_FAILED)."""
        for _ in range(CAS_ATTEMPTS):
            current = await self.specification(tenant, reference)
            _require_revision(current, revision)
            changed = change(current)
            key = subjects.task_key(tenant, current.name)
            try:
                written = await self._tasks.update(key, changed, current.revision)
            except store.Conflict:
                continue
            await self._heads.reach(written)
            return msgspec.structs.replace(changed, revision=written)
        raise errors.ApiError("CONFLICT", f"the task {reference!r} keeps changing; try again")

    async def delete_task(self, tenant: str, reference: str, *, revision: int | None) -> None:
        """Delete the task, then its rollout and versions; program texts and records stay."""
        current = await self.specification(tenant, reference)
        _require_revision(current, revision)
        try:
            await self._tasks.delete(subjects.task_key(tenant, current.name), current.revision)
        except store.Conflict as error:
            raise errors.ApiError(
                "CONFLICT", f"the task {reference!r} changed meanwhile"
            ) from error
        await self._rollouts.delete(current.id)
        await self._shelf.point(current, None)
        await self._heads.settle()
        await self._artifact_mirror.settle()
        for version in list(self._versions.get(current.id, ())):
            await self._artifacts.delete(subjects.artifact_key(current.id, version))

    async def _head(self, task_id: str) -> TaskHead | None:
        """The task of any tenant with that id; None where it was deleted."""
        if task_id not in self._keys:
            await self._heads.settle()
        entry = self._heads.entries.get(self._keys.get(task_id, ""))
        return entry.value if entry is not None and entry.value.id == task_id else None

    def _task_changed(self, change: store.Change[TaskHead]) -> None:
        if change.value is not None:
            self._keys[change.value.id] = change.key
        else:
            self._keys = {i: key for i, key in self._keys.items() if key != change.key}

    # --- artifacts -----------------------------------------------------------------------------

    async def create_artifact(self, artifact: ProgramArtifact, code: str) -> ProgramArtifact:
        """Store *code* and *artifact* as the next version of its task; the version is set here.

        Versions are dense: whoever loses the race for a number takes the next one.
        """
        try:
            digest = await self._texts.put(code)
        except stores.StoreError as error:
            raise stores.problem(error) from error
        await self._artifact_mirror.settle()
        version = max(self._versions.get(artifact.task_id, {0: None}))
        while True:
            version += 1
            numbered = msgspec.structs.replace(
                artifact, version=version, digest=digest, size_bytes=len(code.encode())
            )
            try:
                revision = await self._artifacts.create(
                    subjects.artifact_key(artifact.task_id, version), numbered
                )
            except store.Conflict:
                continue
            await self._artifact_mirror.reach(revision)
            if (head := await self._head(artifact.task_id)) is not None:
                await self._shelf.show(head, numbered)
            return numbered

    async def artifact(self, task_id: str, version: int) -> ProgramArtifact:
        """One version. ARTIFACT_NOT_FOUND."""
        return self._with_status(await self._stored(task_id, version))

    async def artifacts(self, task_id: str) -> list[ProgramArtifact]:
        """All versions, newest first."""
        await self._artifact_mirror.settle()
        await self._rollouts.settle()
        versions = self._versions.get(task_id, {})
        return [self._with_status(versions[number]) for number in sorted(versions, reverse=True)]

    async def code(self, artifact: ProgramArtifact) -> str:
        """The program text. stores.StoreError when it is missing or damaged."""
        return await self._texts.get(artifact.digest)

    async def _stored(self, task_id: str, version: int) -> ProgramArtifact:
        """The version as it was created, whatever the rollout makes of it."""
        found = self._versions.get(task_id, {}).get(version)
        if found is None:
            await self._artifact_mirror.settle()
            found = self._versions.get(task_id, {}).get(version)
        if found is None:
            raise errors.ApiError("ARTIFACT_NOT_FOUND", f"the task has no version {version}")
        return found

    def _artifact_changed(self, change: store.Change[ProgramArtifact]) -> None:
        task_id, _, version = change.key.rpartition(".")
        if change.value is not None:
            self._versions.setdefault(task_id, {})[change.value.version] = change.value
            self._tell(task_id, change.value.version)
        elif task_id in self._versions and version.isdecimal():
            self._versions[task_id].pop(int(version), None)
            if not self._versions[task_id]:
                del self._versions[task_id]

    def _with_status(self, artifact: ProgramArtifact) -> ProgramArtifact:
        """Artifacts never change: that one is active is the rollout's truth, shown here."""
        rollout = self._rollouts.known(artifact.task_id)
        deployed_at = history.deployed_at(rollout, artifact.version) if rollout else None
        if rollout is None or deployed_at is None:
            return artifact
        status: messages.ArtifactStatus = (
            "active" if rollout.active == artifact.version else "deprecated"
        )
        return msgspec.structs.replace(artifact, status=status, deployed_at=deployed_at)

    # --- all of them, as far as memory knows ---------------------------------------------------

    def head(self, task_id: str) -> TaskHead | None:
        """The task of this id, whoever's it is."""
        entry = self._heads.entries.get(self._keys.get(task_id, ""))
        return entry.value if entry is not None and entry.value.id == task_id else None

    def version(self, task_id: str, version: int) -> ProgramArtifact | None:
        return self._versions.get(task_id, {}).get(version)

    def versions(self) -> list[tuple[str, int]]:
        """Task id and number of every version."""
        return [(task_id, each) for task_id, found in self._versions.items() for each in found]

    def known_rollouts(self) -> list[Rollout]:
        """Of all tasks."""
        return self._rollouts.all()

    def _rollout_changed(self, change: store.Change[Rollout]) -> None:
        if change.value is not None:
            self._tell(change.key, None)

    def _tell(self, task_id: str, version: int | None) -> None:
        for told in self.on_change:
            told(task_id, version)

    # --- rollouts ------------------------------------------------------------------------------

    def known_rollout(self, task_id: str) -> Rollout | None:
        """Which version answers, as far as memory knows."""
        return self._rollouts.known(task_id)

    def active_version(self, task_id: str) -> int | None:
        """The active version, as far as memory knows."""
        found = self._rollouts.known(task_id)
        return found.active if found else None

    async def require_rollout(self, task_id: str) -> Rollout:
        """A rollout that has an active version. NO_ACTIVE_VERSION."""
        return await self._rollouts.require(task_id)

    async def rollout(self, task_id: str) -> tuple[Rollout, int]:
        """The rollout as it is on the bus, and its revision: 0 where there is none yet."""
        return await self._rollouts.get(task_id)

    async def activate(self, artifact: ProgramArtifact, *, by: str, now: datetime) -> Rollout:
        """Let *artifact* answer from now on. ARTIFACT_NOT_ACTIVATABLE, CONFLICT."""
        asked = rollouts.Change(active=artifact.version)
        rollout, _ = await self.change_rollout(artifact.task_id, asked, by=by, now=now)
        return rollout

    async def change_rollout(
        self,
        task_id: str,
        asked: rollouts.Change,
        *,
        by: str,
        now: datetime,
        revision: int | None = None,
    ) -> tuple[Rollout, int]:
        """Change what *asked* names; the rollout and its revision. See `Rollouts.change`."""
        author = history.Author(by=by, now=now)
        changed = await self._rollouts.change(task_id, asked, author, revision=revision)
        await self._show_active(task_id)
        return changed

    async def promote(
        self, task_id: str, *, by: str, now: datetime, revision: int | None = None
    ) -> tuple[Rollout, int]:
        """Make the canary the active version. NO_CANARY, PRECONDITION_FAILED."""
        author = history.Author(by=by, now=now)
        changed = await self._rollouts.promote(task_id, author, revision=revision)
        await self._show_active(task_id)
        return changed

    async def rollback(
        self, task_id: str, *, by: str, now: datetime, revision: int | None = None
    ) -> tuple[Rollout, int]:
        """Make the previous version active. NO_PREVIOUS_VERSION, PRECONDITION_FAILED."""
        author = history.Author(by=by, now=now)
        changed = await self._rollouts.rollback(task_id, author, revision=revision)
        await self._show_active(task_id)
        return changed

    async def _show_active(self, task_id: str) -> None:
        """Let the store show which version answers, whoever else activates at the same time."""
        head = await self._head(task_id)
        for _ in range(CAS_ATTEMPTS):
            version = self.active_version(task_id)
            if head is None or not await self._shelf.point(head, version):
                return
            # Who activated later may have been faster here: what is written last must be right.
            await self._rollouts.settle()
            if self.active_version(task_id) == version:
                return


def new_artifact(
    task_id: str, *, language: messages.Language, created_by: str, now: datetime
) -> ProgramArtifact:
    """An artifact to be filled in; `create_artifact` sets its version and digest."""
    return ProgramArtifact(
        id=ids.new(),
        task_id=task_id,
        version=0,
        language=language,
        digest="",
        created_at=now,
        created_by=created_by,
    )


def _with_revision(entry: store.Entry[TaskHead]) -> TaskHead:
    if entry.value.revision == entry.revision:
        return entry.value
    return msgspec.structs.replace(entry.value, revision=entry.revision)


def _require_revision(task: TaskSpecification, revision: int | None) -> None:
    if revision is not None and revision != task.revision:
        raise errors.ApiError(
            "PRECONDITION_FAILED", f"the task is at revision {task.revision}, not {revision}"
        )
