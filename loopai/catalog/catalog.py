"""Tasks, artifact versions and rollouts: reads from memory, writes by compare-and-set."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from loopai import errors
from loopai.catalog import mirror, programs, unknown
from loopai.catalog.cache import cache
from streams import codec, ids, messages, store, subjects, topology
from streams.connection import Connection
from streams.messages import ProgramArtifact, Rollout, RolloutChange, TaskHead, TaskSpecification

M = TypeVar("M", bound=messages.Message)

CAS_ATTEMPTS = 32
HISTORY_MAX = 100
ACTIVATABLE: frozenset[messages.ArtifactStatus] = frozenset({"validated", "active", "deprecated"})


class Catalog:
    """Everything known of tasks. Open with `opened`; errors are errors.ApiError.

    Reads come from memory, which lags the bus by 2-3 ms. Whoever writes waits until memory has it;
    whoever misses something waits until memory has caught up and looks again, so what one process
    wrote another finds.
    """

    def __init__(self, connection: Connection, texts: cache.Texts) -> None:
        self._tasks = store.Bucket(connection, topology.TASKS, codec.TASK)
        self._artifacts = store.Bucket(connection, topology.ARTIFACTS, codec.ARTIFACT)
        self._rollouts = store.Bucket(connection, topology.ROLLOUTS, codec.ROLLOUT)
        self._texts = texts
        self._keys: dict[str, str] = {}  # task id → key in the tasks bucket
        self._unknown = unknown.Unknown()
        self._heads = mirror.Mirror(
            connection, topology.TASKS, codec.TASK_HEAD, on_change=self._task_changed
        )
        self._versions: dict[str, dict[int, ProgramArtifact]] = {}
        self._artifact_mirror = mirror.Mirror(
            connection, topology.ARTIFACTS, codec.ARTIFACT, on_change=self._artifact_changed
        )
        self._rollout_mirror = mirror.Mirror(
            connection, topology.ROLLOUTS, codec.ROLLOUT, on_change=self._rollout_changed
        )
        self._on_rollout: Callable[[Rollout], None] | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Catalog"]:
        """Watch while inside; complete on entry."""
        async with contextlib.AsyncExitStack() as stack:
            for each in (self._heads, self._artifact_mirror, self._rollout_mirror):
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
        await self._heads.settle()
        await self._artifact_mirror.settle()
        for version in list(self._versions.get(current.id, ())):
            await self._artifacts.delete(subjects.artifact_key(current.id, version))

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
        except programs.StoreError as error:
            raise errors.ApiError("STORE_UNAVAILABLE", str(error), retry_after_s=5) from error
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
            return numbered

    async def artifact(self, task_id: str, version: int) -> ProgramArtifact:
        """One version. ARTIFACT_NOT_FOUND."""
        found = self._versions.get(task_id, {}).get(version)
        if found is None:
            await self._artifact_mirror.settle()
            found = self._versions.get(task_id, {}).get(version)
        if found is None:
            raise errors.ApiError("ARTIFACT_NOT_FOUND", f"the task has no version {version}")
        return self._with_status(found)

    async def artifacts(self, task_id: str) -> list[ProgramArtifact]:
        """All versions, newest first."""
        await self._artifact_mirror.settle()
        await self._rollout_mirror.settle()
        versions = self._versions.get(task_id, {})
        return [self._with_status(versions[number]) for number in sorted(versions, reverse=True)]

    async def code(self, artifact: ProgramArtifact) -> str:
        """The program text. programs.StoreError when it is missing or damaged."""
        return await self._texts.get(artifact.digest)

    def _artifact_changed(self, change: store.Change[ProgramArtifact]) -> None:
        task_id, _, version = change.key.rpartition(".")
        if change.value is not None:
            self._versions.setdefault(task_id, {})[change.value.version] = change.value
        elif task_id in self._versions and version.isdecimal():
            self._versions[task_id].pop(int(version), None)
            if not self._versions[task_id]:
                del self._versions[task_id]

    def _with_status(self, artifact: ProgramArtifact) -> ProgramArtifact:
        """Artifacts never change: that one is active is the rollout's truth, shown here."""
        entry = self._rollout_mirror.entries.get(artifact.task_id)
        if entry is None:
            return artifact
        deployed = [c.at for c in entry.value.history if c.version == artifact.version]
        if not deployed:
            return artifact
        status: messages.ArtifactStatus = (
            "active" if entry.value.active == artifact.version else "deprecated"
        )
        return msgspec.structs.replace(artifact, status=status, deployed_at=deployed[-1])

    # --- rollouts ------------------------------------------------------------------------------

    def rollouts(self) -> list[Rollout]:
        """Of all tasks, as far as memory knows."""
        return [entry.value for entry in self._rollout_mirror.entries.values()]

    def on_rollout(self, heard: Callable[[Rollout], None] | None) -> None:
        """Call *heard* with every rollout that changes from now on; None: nobody any more."""
        self._on_rollout = heard

    def _rollout_changed(self, change: store.Change[Rollout]) -> None:
        if self._on_rollout is not None and change.value is not None:
            self._on_rollout(change.value)

    def active_version(self, task_id: str) -> int | None:
        """The version that answers, as far as memory knows."""
        entry = self._rollout_mirror.entries.get(task_id)
        return entry.value.active if entry else None

    async def require_active_version(self, task_id: str) -> int:
        """The version that answers. NO_ACTIVE_VERSION."""
        version = self.active_version(task_id)
        if version is None:
            await self._rollout_mirror.settle()
            version = self.active_version(task_id)
        if version is None:
            raise errors.ApiError(
                "NO_ACTIVE_VERSION",
                "the task has no active version; generate one, or upload and activate one",
            )
        return version

    async def activate(self, artifact: ProgramArtifact, *, by: str, now: datetime) -> Rollout:
        """Let *artifact* answer from now on. ARTIFACT_NOT_ACTIVATABLE, CONFLICT."""
        if artifact.status not in ACTIVATABLE:
            raise errors.ApiError(
                "ARTIFACT_NOT_ACTIVATABLE",
                f"version {artifact.version} is {artifact.status}: {artifact.status_reason}",
            )
        for _ in range(CAS_ATTEMPTS):
            entry = await self._rollouts.get(artifact.task_id)
            current = entry.value if entry else Rollout(task_id=artifact.task_id)
            if current.active == artifact.version:
                return current
            change = RolloutChange(
                at=now,
                by=by,
                action="activate",
                version=artifact.version,
                previous=current.active,
            )
            changed = msgspec.structs.replace(
                current,
                active=artifact.version,
                history=(*current.history, change)[-HISTORY_MAX:],
            )
            try:
                if entry:
                    revision = await self._rollouts.update(
                        artifact.task_id, changed, entry.revision
                    )
                else:
                    revision = await self._rollouts.create(artifact.task_id, changed)
            except store.Conflict:
                continue
            await self._rollout_mirror.reach(revision)
            return changed
        raise errors.ApiError("CONFLICT", "the rollout keeps changing; try again")


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
