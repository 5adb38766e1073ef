"""Lets the store show what the catalogue has, for people: as far as that is possible at once."""

import asyncio
from collections.abc import Awaitable
from typing import Final

import structlog

from loopai.catalog.stores import store
from streams.messages import ProgramArtifact, TaskHead, TaskSpecification

log = structlog.get_logger()

SHOW_S_MAX: Final = 2.0
"""What was decided stands without it: nobody waits longer for a store that does not answer."""


class Shelf:
    """The catalogue is the truth. What fails here is logged, and no error of the change itself."""

    def __init__(self, shown: store.Shelves) -> None:
        self._shown = shown

    async def show(self, task: TaskHead, artifact: ProgramArtifact) -> bool:
        """Show *artifact* as a version of *task*; whether that went well."""
        return await self._tried(task, self._shown.shelve(task.tenant, task.name, artifact))

    async def point(self, task: TaskHead | TaskSpecification, version: int | None) -> bool:
        """Show *version* as the one that answers; whether that went well."""
        return await self._tried(task, self._shown.point(task.tenant, task.name, version))

    async def _tried(self, task: TaskHead | TaskSpecification, showing: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(SHOW_S_MAX):
                await showing
        except (store.StoreError, TimeoutError) as error:
            log.warning(
                "store does not show the catalogue",
                tenant=task.tenant,
                task=task.name,
                reason=str(error) or f"no answer within {SHOW_S_MAX:g} s",
            )
            return False
        return True
