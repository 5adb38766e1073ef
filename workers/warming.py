"""Program texts fetched before they are asked for: at the start, and when a rollout changes.

Texts only: a cell made ahead would take 20 MB that nobody may need.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from loopai import errors
from loopai.catalog import catalog
from loopai.catalog.cache import memory
from loopai.catalog.stores.store import StoreError
from streams import codec, ending, store, subjects, topology
from streams.connection import Connection
from streams.messages import Language, ProgramArtifact, Rollout

log = structlog.get_logger()

AT_ONCE: Final = 4
"""Texts that are fetched at a time: whoever runs a program meanwhile finds the store at leisure."""
PRESENCE_S_MAX: Final = 2.0
"""How long to listen for what other workers run; then the order is by activation alone."""
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)


class Warmer:
    """Fetches what the rollouts in *known* may ask this worker for, in *languages*."""

    def __init__(
        self, connection: Connection, known: catalog.Catalog, *, languages: Collection[Language]
    ) -> None:
        self._connection = connection
        self._catalog = known
        self._languages = languages
        # Of each task once, however often it changes: there are no more than tasks.
        self._wanted: OrderedDict[str, Rollout] = OrderedDict()
        self._ready = asyncio.Semaphore(0)

    @contextlib.asynccontextmanager
    async def opened(self, *, bytes_max: int) -> AsyncIterator[None]:
        """Warm while inside, beside whatever is done there; *bytes_max* of texts at the start."""
        self._catalog.on_change.append(self._changed)
        tasks = [asyncio.create_task(self._begin(bytes_max))]
        tasks += [asyncio.create_task(self._fetch_wanted()) for _ in range(AT_ONCE)]
        try:
            yield
        finally:
            self._catalog.on_change.remove(self._changed)
            await ending.end(*tasks)

    async def _begin(self, bytes_max: int) -> None:
        """Want what ran lately, then what was activated last, as far as memory has room."""
        rates = await self._rates()

        def urgency(rollout: Rollout) -> tuple[float, datetime]:
            activated = rollout.history[-1].at if rollout.history else _BEGINNING
            return rates.get(rollout.task_id, 0.0), activated

        left = bytes_max
        for rollout in sorted(self._catalog.known_rollouts(), key=urgency, reverse=True):
            artifacts = await self._artifacts(rollout)
            left -= sum(each.size_bytes + memory.OVERHEAD_BYTES for each in artifacts)
            if left < 0:
                return
            self._want(rollout)
            await asyncio.sleep(0)  # there may be many, and executions have begun

    async def _rates(self) -> dict[str, float]:
        """Executions a second of the last minute, by task id, as all executors tell."""
        rates: dict[str, float] = {}
        workers = store.Bucket(self._connection, topology.WORKERS, codec.WORKER)
        with contextlib.suppress(TimeoutError, store.StoreUnavailable):
            async with (
                asyncio.timeout(PRESENCE_S_MAX),
                contextlib.aclosing(workers.watch()) as changes,
            ):
                async for change in changes:
                    if change is None:
                        break
                    if change.value is not None:
                        self._add(change.value.rates, rates)
        return rates

    def _add(self, told: Mapping[str, float], rates: dict[str, float]) -> None:
        for subject, rate in told.items():
            with contextlib.suppress(ValueError):  # of another make
                task = self._catalog.find(*subjects.owner(subject))
                if task is not None:
                    rates[task.id] = rates.get(task.id, 0.0) + rate

    def _changed(self, task_id: str, version: int | None) -> None:
        rollout = self._catalog.known_rollout(task_id)
        if version is None and rollout is not None:
            self._want(rollout)
            # Callers come for it now: what the start has left can wait.
            self._wanted.move_to_end(task_id, last=False)

    def _want(self, rollout: Rollout) -> None:
        if rollout.task_id not in self._wanted:
            self._ready.release()
        self._wanted[rollout.task_id] = rollout

    async def _fetch_wanted(self) -> None:
        while True:
            await self._ready.acquire()
            _, rollout = self._wanted.popitem(last=False)
            for artifact in await self._artifacts(rollout):
                try:
                    await self._catalog.code(artifact)
                except StoreError as error:
                    # Whoever wants it in earnest tries again.
                    log.info("text not fetched ahead", task_id=rollout.task_id, reason=str(error))

    async def _artifacts(self, rollout: Rollout) -> list[ProgramArtifact]:
        """What may run of *rollout*, here: its active version, its canary, its shadow."""
        canary = rollout.canary.version if rollout.canary else None
        versions = {each for each in (rollout.active, canary, rollout.shadow) if each is not None}
        found = []
        for version in versions:
            with contextlib.suppress(errors.ApiError, store.StoreUnavailable):
                artifact = await self._catalog.artifact(rollout.task_id, version)
                if artifact.language in self._languages:
                    found.append(artifact)
        return found
