"""Keeps the store of a site as the registry says, and tells how far it is.

The registry is the truth, and the store of a site follows: every version has its text and its place
there, and what is active is pointed at. What changes is heard by KV watch and followed at once;
what fails is tried again until it works, or until the registry says otherwise.
"""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
import structlog

from loopai.catalog import catalog
from loopai.catalog.stores import store
from streams import ending
from streams.messages import DigestConflict, ProgramArtifact, SiteState

log = structlog.get_logger()

RETRY_S: Final = 1.0
"""First wait after a failure; it doubles …"""
RETRY_S_MAX: Final = 30.0
"""… up to this."""
CHECK_S: Final = 3600.0
"""How often every text is read again and compared with its digest …"""
CHECK_PAUSE_S: Final = 0.05
"""… with so much time between two, so that a large store is not busy with it."""
LATEST_MAX: Final = 20
"""Conflicts that are told one by one."""


class Change(NamedTuple):
    """What has to be followed: a version, or where the version is None, what is active."""

    task_id: str
    version: int | None


class _Pending(msgspec.Struct):
    due: float
    """By the loop's clock."""
    delay_s: float = RETRY_S


class Sync:
    """Follows the registry of *known* into *own*, with *texts* that it has or gets from others.

    `run` it for as long as it should.
    """

    def __init__(
        self, known: catalog.Catalog, texts: store.Texts, own: store.Store, *, site: str
    ) -> None:
        self._catalog = known
        self._texts = texts
        self._store = own
        self._site = site
        self._pending: dict[Change, _Pending] = {}
        self._changed = asyncio.Event()
        self._conflicts = 0
        self._latest: collections.deque[DigestConflict] = collections.deque(maxlen=LATEST_MAX)
        self._reason = ""

    def note(self, task_id: str, version: int | None) -> None:
        """The registry has changed there; without a version, its rollout has."""
        self._pending[Change(task_id, version)] = _Pending(asyncio.get_running_loop().time())
        self._changed.set()

    async def run(self, told: Callable[[], None]) -> None:
        """Follow until cancelled; *told* after each step that `state` may show."""
        loop = asyncio.get_running_loop()
        for task_id, version in self._catalog.versions():
            self.note(task_id, version)
        for rollout in self._catalog.known_rollouts():
            self.note(rollout.task_id, None)
        checking = asyncio.create_task(self._check())
        try:
            while True:
                self._changed.clear()
                # What came last goes first: it should not wait for a look at all there is.
                for change, pending in reversed(list(self._pending.items())):
                    if pending.due <= loop.time():
                        await self._follow(change, pending)
                        told()
                    if self._changed.is_set():
                        break
                due = min((each.due for each in self._pending.values()), default=None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._changed.wait()
        finally:
            await ending.end(checking)

    def state(self) -> SiteState:
        """How far it is now."""
        since = [found for each in self._pending if (found := self._since(each)) is not None]
        now = datetime.now(UTC)
        return SiteState(
            site=self._site,
            store=self._store.url,
            versions=len(self._catalog.versions()),
            missing=sum(each.version is not None for each in self._pending),
            lag_s=max(0.0, (now - min(since)).total_seconds()) if since else 0.0,
            conflicts=self._conflicts,
            latest=tuple(self._latest),
            reason=self._reason if self._pending else "",
            updated_at=now,
        )

    async def _follow(self, change: Change, pending: _Pending) -> None:
        try:
            if change.version is None:
                await self._point(change.task_id)
            else:
                await self._keep(change.task_id, change.version)
        except store.StoreError as error:
            self._reason = str(error)
            log.warning("site does not follow", site=self._site, reason=self._reason)
            pending.due = asyncio.get_running_loop().time() + pending.delay_s
            pending.delay_s = min(2 * pending.delay_s, RETRY_S_MAX)
            return
        # A change that came meanwhile has an entry of its own.
        if self._pending.get(change) is pending:
            del self._pending[change]

    async def _keep(self, task_id: str, version: int) -> None:
        task = self._catalog.head(task_id)
        artifact = self._catalog.version(task_id, version)
        if task is None or artifact is None:
            return  # deleted: what lies in stores stays
        shown = await self._store.shown(task.tenant, task.name, version)
        if shown is not None and shown.digest != artifact.digest:
            self._conflict(task.tenant, task.name, artifact, shown.digest)
        await self._texts.get(artifact.digest)
        await self._store.shelve(task.tenant, task.name, artifact)

    async def _point(self, task_id: str) -> None:
        task, rollout = self._catalog.head(task_id), self._catalog.known_rollout(task_id)
        if task is not None and rollout is not None:
            await self._store.point(task.tenant, task.name, rollout.active)

    def _conflict(self, tenant: str, task: str, artifact: ProgramArtifact, found: str) -> None:
        """A task that was deleted and made anew has other versions; or somebody wrote there."""
        self._conflicts += 1
        self._latest.appendleft(
            DigestConflict(
                tenant=tenant,
                task=task,
                version=artifact.version,
                expected=artifact.digest,
                found=found,
                at=datetime.now(UTC),
            )
        )
        log.warning(
            "site had another program; the registry holds",
            site=self._site,
            tenant=tenant,
            task=task,
            version=artifact.version,
            expected=artifact.digest,
            found=found,
        )

    async def _check(self) -> None:
        """Read all texts again now and then: one that was damaged is found before it is needed."""
        while True:
            await asyncio.sleep(CHECK_S)
            for task_id, version in self._catalog.versions():
                self.note(task_id, version)
                await asyncio.sleep(CHECK_PAUSE_S)

    def _since(self, change: Change) -> datetime | None:
        """When the registry said so."""
        if change.version is not None:
            artifact = self._catalog.version(change.task_id, change.version)
            return artifact.created_at if artifact else None
        rollout = self._catalog.known_rollout(change.task_id)
        return rollout.history[-1].at if rollout and rollout.history else None
